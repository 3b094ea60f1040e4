//! Sources that are files: records as the gateway exports them, and exports of other systems.

use std::fs::File;
use std::io::{BufReader, Read, Write};
use std::path::Path;

use super::SourceError;
use super::definition::FileForm;
use super::pull::{Form, Pulled, Reading};
use super::tables::{self, Table};
use crate::record::{Line, Reader};

/// Bytes that are read at once.
const CHUNK: usize = 128 * 1024;

/// Writes a file's records to `out`.
pub(super) fn pull(
    path: &Path,
    form: FileForm,
    out: &mut dyn Write,
) -> Result<Pulled, SourceError> {
    let failed = |error: std::io::Error| SourceError::file(path, &error);
    let mut file = open(path)?;
    let (form, items, skipped) = match table(form) {
        None => {
            std::io::copy(&mut file, out).map_err(failed)?;
            let form = if form == FileForm::Csv {
                Form::Csv
            } else {
                Form::Ndjson
            };
            (form, 0, 0)
        }
        Some(table) => {
            let (items, skipped) = convert(path, table, file, out)?;
            (Form::Ndjson, items, skipped)
        }
    };
    Ok(Pulled {
        form,
        reading: Reading::Everything,
        items,
        skipped,
        state: None,
    })
}

/// Reads a file to its end: how many devices it names. The first bad line is what is wrong.
pub(super) fn check(path: &Path, form: FileForm) -> Result<String, SourceError> {
    let mut file = open(path)?;
    if let Some(table) = table(form) {
        let (rows, skipped) = convert(path, table, file, &mut std::io::sink())?;
        return Ok(format!(
            "a file of {rows} devices, {} of them with a DeviceId",
            rows - skipped
        ));
    }
    let (mut devices, mut bad) = (0_u64, None);
    let mut note = |line: Line| match line {
        Ok(_) => devices += 1,
        Err(line) => bad = bad.take().or(Some(line)),
    };
    let mut reader = if form == FileForm::Csv {
        Reader::csv()
    } else {
        Reader::ndjson()
    };
    let mut chunk = vec![0; CHUNK];
    loop {
        let length = file
            .read(&mut chunk)
            .map_err(|error| SourceError::file(path, &error))?;
        if length == 0 {
            break;
        }
        reader.feed(chunk.get(..length).unwrap_or_default(), &mut note);
    }
    reader.finish(&mut note);
    match bad {
        None => Ok(format!("a file of {devices} devices")),
        Some(line) => Err(SourceError::File {
            path: path.display().to_string(),
            reason: line.to_string(),
        }),
    }
}

fn open(path: &Path) -> Result<File, SourceError> {
    let opened = File::open(path).and_then(|file| {
        if file.metadata()?.is_dir() {
            return Err(std::io::ErrorKind::IsADirectory.into());
        }
        Ok(file)
    });
    opened.map_err(|error| SourceError::file(path, &error))
}

fn table(form: FileForm) -> Option<Table> {
    match form {
        FileForm::Ndjson | FileForm::Csv => None,
        FileForm::Exchange => Some(tables::EXCHANGE),
        FileForm::SegV2 => Some(tables::SEG_V2),
    }
}

fn convert(
    path: &Path,
    table: Table,
    file: File,
    out: &mut dyn Write,
) -> Result<(u64, u64), SourceError> {
    let converted = tables::convert(table, BufReader::new(file), out);
    converted.map_err(|reason| SourceError::File {
        path: path.display().to_string(),
        reason,
    })
}
