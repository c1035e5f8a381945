//! Text that the hypervisor has drawn with pixels, read back from a picture of the screen.

use std::io::Cursor;

use anyhow::{Context, Result};
use noto_sans_mono_bitmap::{FontWeight, RasterHeight, get_raster};

const HEIGHT: usize = RasterHeight::Size16.val();

/// Whether a row of the picture has exactly the pixels of `text`, in the hypervisor's font.
///
/// # Errors
/// If it is no PNG file.
pub fn shows(png: &[u8], text: &str) -> Result<bool> {
    let mut decoder = png::Decoder::new(Cursor::new(png));
    decoder.set_transformations(png::Transformations::normalize_to_color8());
    let mut reader = decoder.read_info()?;
    let mut samples = vec![0; reader.output_buffer_size().context("the picture is too large")?];
    let frame = reader.next_frame(&mut samples)?;
    let bytes_per_pixel = frame.color_type.samples();
    let rows: Vec<&[u8]> = samples.chunks(frame.line_size).collect();
    let text: Vec<Vec<u8>> =
        (0..HEIGHT).map(|line| scan_line(text, line, bytes_per_pixel)).collect();
    Ok(rows.chunks_exact(HEIGHT).any(|rows| {
        let starts = (0..rows[0].len()).step_by(bytes_per_pixel);
        let mut places = starts.map(|start| rows.iter().map(move |row| &row[start..]));
        places.any(|mut place| {
            text.iter().all(|line| place.next().is_some_and(|row| row.starts_with(line)))
        })
    }))
}

fn scan_line(text: &str, line: usize, bytes_per_pixel: usize) -> Vec<u8> {
    let glyphs = text
        .chars()
        .filter_map(|letter| get_raster(letter, FontWeight::Regular, RasterHeight::Size16));
    glyphs
        .flat_map(|glyph| glyph.raster()[line].to_vec())
        .flat_map(|shade| std::iter::repeat_n(shade, bytes_per_pixel))
        .collect()
}
