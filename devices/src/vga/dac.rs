//! The palette DAC (ports 3c6h to 3c9h).

/// 256 colours of three components, six or eight bits wide.
#[derive(Clone, Debug)]
pub struct Dac {
    pub pel_mask: u8,
    /// Components are eight bits wide (DISPI `8BIT_DAC`); otherwise six.
    pub wide: bool,
    colours: [[u8; 3]; 256],
    read_index: u8,
    write_index: u8,
    /// Which component the next access of 3c9h reaches.
    component: u8,
    /// The value that 3c7h reads: 3 after a read index was set, 0 after a write index was set.
    state: u8,
    /// Components written so far; they take effect together.
    pending: [u8; 3],
}

impl Default for Dac {
    fn default() -> Self {
        Self {
            pel_mask: 0xff,
            wide: false,
            colours: [[0; 3]; 256],
            read_index: 0,
            write_index: 0,
            component: 0,
            state: 0,
            pending: [0; 3],
        }
    }
}

impl Dac {
    pub fn state(&self) -> u8 {
        self.state
    }

    pub fn write_index(&self) -> u8 {
        self.write_index
    }

    pub fn set_read_index(&mut self, index: u8) {
        self.read_index = index;
        self.component = 0;
        self.state = 3;
    }

    pub fn set_write_index(&mut self, index: u8) {
        self.write_index = index;
        self.component = 0;
        self.state = 0;
    }

    pub fn read_data(&mut self) -> u8 {
        let value = self.colours[usize::from(self.read_index)][usize::from(self.component % 3)];
        self.component += 1;
        if self.component >= 3 {
            self.component = 0;
            self.read_index = self.read_index.wrapping_add(1);
        }
        value
    }

    pub fn write_data(&mut self, value: u8) {
        self.pending[usize::from(self.component % 3)] =
            if self.wide { value } else { value & 0x3f };
        self.component += 1;
        if self.component >= 3 {
            self.component = 0;
            self.colours[usize::from(self.write_index)] = self.pending;
            self.write_index = self.write_index.wrapping_add(1);
        }
    }

    /// The colour that dot value `index` shows, as 00RRGGBBh.
    pub fn rgb(&self, index: u8) -> u32 {
        let colour = self.colours[usize::from(index & self.pel_mask)];
        let [red, green, blue] = colour.map(|part| match self.wide {
            true => part,
            // Six bits to eight: full scale maps to full scale.
            false => (part & 0x3f) << 2 | (part & 0x3f) >> 4,
        });
        u32::from_be_bytes([0, red, green, blue])
    }
}
