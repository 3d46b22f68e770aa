//! A log file that keeps itself in bounds: a new one when it is large or the day is over, old ones compressed, and
//! removed after some time. The same on every system, without a tool beside it.
//!
//! The file that is written always has the configured name; what it held before lies beside it as
//! `NAME.20261122-160509` (UTC), later with `.gz`. Old files are cared for by a thread of their own, so that the one
//! that writes lines never waits for it; whatever a process that was killed left half done, the next one does.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::thread;
use std::time::{SystemTime, UNIX_EPOCH};

use flate2::Compression;
use flate2::write::GzEncoder;

use super::WRITE_BLOCK_BYTES;
use crate::config::model::LogFile;
use crate::telemetry::timestamp::Timestamp;

const SECONDS_PER_DAY: u64 = 86_400;

/// What is being compressed has this at its end.
const UNFINISHED: &str = ".part";

/// A file that is written line by line.
pub(super) struct RotatingFile {
    settings: LogFile,
    file: BufWriter<File>,
    bytes: u64,
    /// Days since 1970, UTC, of the first line.
    day: u64,
    /// Tells the thread that there are old files; it ends when this is dropped.
    rotated: SyncSender<()>,
}

/// Whether the file can be opened for writing; it is made where it is not there.
///
/// # Errors
/// If it cannot.
pub(super) fn try_open(settings: &LogFile) -> io::Result<()> {
    append(&settings.path).map(drop)
}

impl RotatingFile {
    /// Opens the file, at the end of what it holds.
    ///
    /// # Errors
    /// If it cannot be opened for writing.
    pub(super) fn open(settings: &LogFile) -> io::Result<Self> {
        let file = append(&settings.path)?;
        let metadata = file.metadata()?;
        let now = SystemTime::now();
        let day = if metadata.len() == 0 { now } else { metadata.modified()? };
        // One place: the thread looks at all files whenever it is told.
        let (rotated, told) = sync_channel(1);
        let keeper = Keeper { settings: settings.clone() };
        thread::Builder::new().name("log files".to_owned()).spawn(move || keeper.run(&told))?;
        let mut opened = Self {
            settings: settings.clone(),
            file: BufWriter::with_capacity(WRITE_BLOCK_BYTES, file),
            bytes: metadata.len(),
            day: days(day),
            rotated,
        };
        opened.tell();
        Ok(opened)
    }

    fn tell(&mut self) {
        let _told_already = self.rotated.try_send(()).is_err();
    }

    fn is_full(&self, line: usize, now: SystemTime) -> bool {
        let too_large = self.bytes + line as u64 > self.settings.bytes_max;
        let day_is_over = self.settings.daily && days(now) != self.day;
        self.bytes > 0 && (too_large || day_is_over)
    }

    /// Begins a new file. The old one is renamed, not copied: no line is lost or written twice.
    fn rotate(&mut self, now: SystemTime) -> io::Result<()> {
        self.file.flush()?;
        // On Windows it may stay open meanwhile: it is opened so that others may rename and read it.
        fs::rename(&self.settings.path, self.name_of_old(now))?;
        self.file = BufWriter::with_capacity(WRITE_BLOCK_BYTES, append(&self.settings.path)?);
        self.bytes = 0;
        self.day = days(now);
        self.tell();
        Ok(())
    }

    /// The first name that is free, since two files may be full within a second.
    fn name_of_old(&self, now: SystemTime) -> PathBuf {
        let digits: String = Timestamp(now).to_string().chars().filter(char::is_ascii_digit).collect();
        let stamp = format!("{}-{}", &digits[..8], &digits[8..14]);
        (0..1_000_u32)
            .map(|count| if count == 0 { stamp.clone() } else { format!("{stamp}.{count}") })
            .map(|stamp| with_end(&self.settings.path, &format!(".{stamp}")))
            .find(|path| !path.exists() && !with_end(path, ".gz").exists())
            .unwrap_or_else(|| with_end(&self.settings.path, ".old"))
    }
}

impl Write for RotatingFile {
    fn write(&mut self, line: &[u8]) -> io::Result<usize> {
        self.write_all(line).map(|()| line.len())
    }

    /// The sink passes whole lines. Where a new file cannot be had the old one grows on: a line that is in the wrong file
    /// is better than one that is in none.
    fn write_all(&mut self, line: &[u8]) -> io::Result<()> {
        let now = SystemTime::now();
        if self.is_full(line.len(), now) && self.rotate(now).is_err() {
            // Not for each line.
            self.bytes = 0;
            self.day = days(now);
        }
        self.file.write_all(line)?;
        self.bytes += line.len() as u64;
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.file.flush()
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().create(true).append(true).open(path)
}

fn days(at: SystemTime) -> u64 {
    at.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs() / SECONDS_PER_DAY
}

fn with_end(path: &Path, end: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(end);
    name.into()
}

/// Cares for the files that were full.
struct Keeper {
    settings: LogFile,
}

impl Keeper {
    /// Looks at the files whenever it is told to, until there is nobody to tell it.
    fn run(&self, told: &Receiver<()>) {
        while told.recv().is_ok() {
            if let Err(error) = self.sweep(SystemTime::now()) {
                let path = self.settings.path.display();
                tracing::warn!(%path, %error, "old log files not cared for");
            }
        }
    }

    fn sweep(&self, now: SystemTime) -> io::Result<()> {
        for path in self.old_files()? {
            let age = now.duration_since(fs::metadata(&path)?.modified()?).unwrap_or_default();
            let expired = self.settings.age_max.is_some_and(|age_max| age > age_max);
            if expired || ends_with(&path, UNFINISHED) {
                fs::remove_file(&path)?;
            } else if self.settings.compress && !ends_with(&path, ".gz") {
                compress(&path)?;
            }
        }
        Ok(())
    }

    /// Files beside the log that have its name and a time behind it.
    fn old_files(&self) -> io::Result<Vec<PathBuf>> {
        let path = &self.settings.path;
        let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let is_old = |other: &str| {
            other
                .strip_prefix(&*name)
                .and_then(|end| end.strip_prefix('.'))
                .is_some_and(|end| end.starts_with(|first: char| first.is_ascii_digit()))
        };
        let entries = fs::read_dir(folder)?.filter_map(Result::ok);
        let mut old: Vec<_> =
            entries.filter(|entry| is_old(&entry.file_name().to_string_lossy())).map(|entry| entry.path()).collect();
        old.sort();
        Ok(old)
    }
}

fn ends_with(path: &Path, end: &str) -> bool {
    path.as_os_str().to_string_lossy().ends_with(end)
}

/// Leaves either the file or the whole of it compressed, whenever it is killed; and keeps its time, by which it expires.
fn compress(path: &Path) -> io::Result<()> {
    let compressed = with_end(path, ".gz");
    let unfinished = with_end(&compressed, UNFINISHED);
    let mut source = File::open(path)?;
    let modified = source.metadata()?.modified()?;
    let mut encoder = GzEncoder::new(File::create(&unfinished)?, Compression::default());
    io::copy(&mut source, &mut encoder)?;
    let target = encoder.finish()?;
    target.set_modified(modified)?;
    target.sync_all()?;
    drop((source, target));
    fs::rename(&unfinished, &compressed)?;
    fs::remove_file(path)
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::time::Duration;

    use flate2::read::GzDecoder;

    use super::*;

    /// So many days.
    const fn age(days: u64) -> Duration {
        Duration::from_secs(days * SECONDS_PER_DAY)
    }

    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("plimsoll-log-{name}-{}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path)
        }

        fn settings(&self) -> LogFile {
            let path = self.0.join("p.log");
            LogFile { path, bytes_max: 100, daily: true, compress: false, age_max: Some(age(180)) }
        }

        fn names(&self) -> Vec<String> {
            let entries = fs::read_dir(&self.0).unwrap();
            let mut names: Vec<_> =
                entries.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
            names.sort();
            names
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            drop(fs::remove_dir_all(&self.0));
        }
    }

    #[test]
    fn a_full_file_makes_place_for_a_new_one_and_no_line_is_lost() {
        let folder = Folder::new("full");
        let mut file = RotatingFile::open(&folder.settings()).unwrap();
        let lines: Vec<_> = (0..20).map(|number| format!("{number:029}\n")).collect();
        for line in &lines {
            file.write_all(line.as_bytes()).unwrap();
        }
        file.flush().unwrap();
        let names = folder.names();
        assert_eq!(names.len(), 7, "three lines each: {names:?}");
        let mut text: Vec<_> = names.iter().map(|name| fs::read_to_string(folder.0.join(name)).unwrap()).collect();
        assert!(text.iter().all(|text| text.len() <= 100), "{text:?}");
        text.sort();
        assert_eq!(text.concat(), lines.concat());
    }

    #[test]
    fn a_new_day_makes_a_new_file_and_a_line_that_is_too_long_stands_alone() {
        let folder = Folder::new("day");
        let mut file = RotatingFile::open(&folder.settings()).unwrap();
        let now = SystemTime::now();
        assert!(!file.is_full(1_000, now), "an empty file is never full");
        file.write_all(b"a line\n").unwrap();
        assert!(!file.is_full(10, now));
        assert!(file.is_full(100, now));
        assert!(file.is_full(10, now + age(1)));
        file.settings.daily = false;
        assert!(!file.is_full(10, now + age(1)));
    }

    #[test]
    fn a_file_that_was_there_is_continued() {
        let folder = Folder::new("continued");
        fs::write(folder.settings().path, "before\n").unwrap();
        let mut file = RotatingFile::open(&folder.settings()).unwrap();
        file.write_all(b"after\n").unwrap();
        file.flush().unwrap();
        assert_eq!(fs::read_to_string(folder.settings().path).unwrap(), "before\nafter\n");
    }

    #[test]
    fn old_files_are_compressed_and_removed_after_their_time() {
        let folder = Folder::new("old");
        for name in ["p.log", "p.log.20260101-000000", "p.log.20260102-000000.gz.part", "p.log.txt", "other.log.1"] {
            fs::write(folder.0.join(name), "some lines\n").unwrap();
        }
        let keeper = Keeper { settings: LogFile { compress: true, ..folder.settings() } };
        keeper.sweep(SystemTime::now()).unwrap();
        assert_eq!(folder.names(), ["other.log.1", "p.log", "p.log.20260101-000000.gz", "p.log.txt"]);
        let mut text = String::new();
        let compressed = File::open(folder.0.join("p.log.20260101-000000.gz")).unwrap();
        GzDecoder::new(compressed).read_to_string(&mut text).unwrap();
        assert_eq!(text, "some lines\n");
        keeper.sweep(SystemTime::now() + age(179)).unwrap();
        assert_eq!(folder.names().len(), 4);
        keeper.sweep(SystemTime::now() + age(181)).unwrap();
        assert_eq!(folder.names(), ["other.log.1", "p.log", "p.log.txt"]);
    }
}
