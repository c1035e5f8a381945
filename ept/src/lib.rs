//! Second-level page tables in the EPT and NPT formats.
