//! Pictures of screens, and how alike two are.

use std::io::Cursor;

use anyhow::{Context, Result, bail};

/// Pictures are compared on a grid of this many fields, since a font or a clock may differ.
const GRID: (usize, usize) = (160, 100);

/// Screens at least this similar show the same thing.
pub const ALIKE: f64 = 0.9;

/// Screens at least this similar do not differ, but for a cursor that blinks.
pub const SAME: f64 = 0.999;

/// A picture in shades of grey.
pub struct Picture {
    width: usize,
    height: usize,
    luma: Vec<f64>,
}

impl Picture {
    /// From a PNG file's bytes.
    ///
    /// # Errors
    /// If it is not a PNG.
    pub fn from_png(bytes: &[u8]) -> Result<Self> {
        let mut decoder = png::Decoder::new(Cursor::new(bytes));
        decoder.set_transformations(png::Transformations::normalize_to_color8());
        let mut reader = decoder.read_info()?;
        let mut samples = vec![0; reader.output_buffer_size().context("the picture is too large")?];
        let frame = reader.next_frame(&mut samples)?;
        let channels = frame.color_type.samples();
        let luma = |pixel: &[u8]| match *pixel {
            [grey] | [grey, _] => f64::from(grey),
            [red, green, blue] | [red, green, blue, _] => {
                0.299 * f64::from(red) + 0.587 * f64::from(green) + 0.114 * f64::from(blue)
            }
            _ => 0.0,
        };
        let luma: Vec<f64> = samples[..frame.buffer_size()].chunks(channels).map(luma).collect();
        let (width, height) = (frame.width as usize, frame.height as usize);
        if luma.is_empty() || luma.len() != width * height {
            bail!("the picture is empty");
        }
        Ok(Self { width, height, luma })
    }

    /// Width and height in pixels.
    pub fn size(&self) -> (usize, usize) {
        (self.width, self.height)
    }

    /// How alike the pictures are: the correlation of their brightness, 1 for the same picture,
    /// about 0 for unrelated ones or an empty one. Sizes may differ.
    pub fn similarity(&self, other: &Self) -> f64 {
        let (ours, theirs) = (self.grid(), other.grid());
        let covariance = |left: &[f64], right: &[f64]| -> f64 {
            let mean = |values: &[f64]| values.iter().sum::<f64>() / values.len() as f64;
            let (left_mean, right_mean) = (mean(left), mean(right));
            left.iter()
                .zip(right)
                .map(|(left, right)| (left - left_mean) * (right - right_mean))
                .sum()
        };
        let scale = (covariance(&ours, &ours) * covariance(&theirs, &theirs)).sqrt();
        if scale > f64::EPSILON { covariance(&ours, &theirs) / scale } else { 0.0 }
    }

    /// The mean brightness of each field of the grid.
    fn grid(&self) -> Vec<f64> {
        let (columns, rows) = GRID;
        let span = |index: usize, count: usize, size: usize| {
            let start = index * size / count;
            start..((index + 1) * size / count).max(start + 1)
        };
        let field = |row: usize, column: usize| {
            let lines = span(row, rows, self.height);
            let pixels = lines
                .flat_map(|y| span(column, columns, self.width).map(move |x| y * self.width + x));
            let (sum, count) =
                pixels.fold((0.0, 0.0), |(sum, count), at| (sum + self.luma[at], count + 1.0));
            sum / count
        };
        (0..rows)
            .flat_map(|row| (0..columns).map(move |column| (row, column)))
            .map(|(row, column)| field(row, column))
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::Picture;

    fn picture(width: usize, height: usize, pixel: impl Fn(usize, usize) -> f64) -> Picture {
        let luma = (0..height)
            .flat_map(|y| (0..width).map(move |x| (x, y)))
            .map(|(x, y)| pixel(x, y))
            .collect();
        Picture { width, height, luma }
    }

    #[test]
    fn the_same_scene_at_another_size_is_alike() {
        let scene = |x: f64, y: f64| if x + y > 1.0 { 255.0 } else { 20.0 };
        let small = picture(320, 200, |x, y| scene(x as f64 / 320.0, y as f64 / 200.0));
        let large = picture(720, 400, |x, y| scene(x as f64 / 720.0, y as f64 / 400.0));
        assert!(small.similarity(&large) > 0.95);
        let mirrored = picture(320, 200, |x, y| scene(1.0 - x as f64 / 320.0, y as f64 / 200.0));
        assert!(small.similarity(&mirrored) < 0.2);
    }

    #[test]
    fn an_empty_screen_is_like_nothing() {
        let black = picture(80, 50, |_, _| 0.0);
        assert_eq!(black.similarity(&picture(80, 50, |x, _| x as f64)), 0.0);
        assert_eq!(black.similarity(&black), 0.0);
    }
}
