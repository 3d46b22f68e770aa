//! Tells when the configuration file has another content, or one of the files that it names.
//!
//! The folders are watched, not the file: an editor that writes a new file and renames it over the old one, and
//! Kubernetes, which swaps a symlink (`..data`) beside it, would leave a watch on the file itself behind. Events only say
//! "look": whether anything changed is decided by the content, so a backup file or a touch is no reload. A file that
//! vanishes is a change as well, so that log and metric tell of it as of any other that cannot be used. Where the system
//! cannot watch (limits of inotify, network file systems), the file is looked at now and then.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use notify::{RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until, timeout};

use super::load::fingerprint;
use crate::tls::certificate::Digest;

/// How long the folder must be quiet before the file is read: editors write in several steps.
const QUIET: Duration = Duration::from_millis(200);

/// How long a folder that never gets quiet can put the reading off.
const QUIET_WAIT_MAX: Duration = Duration::from_secs(2);

/// How often the file is looked at although the system would tell: it does not on some network file systems.
const LOOK_INTERVAL: Duration = Duration::from_secs(10);

/// How often the file is looked at where the system cannot watch.
const POLL_INTERVAL: Duration = Duration::from_secs(1);

/// More files than that are looked at less often where the system cannot watch.
const POLLED_FILES_MAX: usize = 1_000;

/// Symlinks that are followed from the file to its content; a loop ends here.
const LINKS_MAX: usize = 16;

/// Watches the configuration file.
#[derive(Debug)]
pub struct Watch {
    path: PathBuf,
    seen: Seen,
    folders: Folders,
    /// Nobody has looked yet: what happened between the loading and the start of the watch made no event.
    fresh: bool,
}

/// What the last look found.
#[derive(Debug)]
struct Seen {
    /// Hash of the last content that could be read.
    content: String,
    readable: bool,
}

impl Watch {
    /// Starts to watch. `hash` is that of the content that is known (`Config::hash`): any other one is a change, also one
    /// that came between the loading and this.
    #[must_use]
    pub fn start(path: &Path, hash: &str) -> Self {
        let seen = Seen { content: hash.to_owned(), readable: true };
        let mut watch = Self { path: path.to_path_buf(), seen, folders: Folders::new(), fresh: true };
        watch.folders.follow([path]);
        watch
    }

    /// Waits until the file has another content than at the last change (or at the start), or can no longer be read.
    ///
    /// # Cancel safety
    /// Nothing is lost: what the file holds is compared when this is called again.
    pub async fn changed(&mut self) {
        if std::mem::take(&mut self.fresh) && self.look() {
            return;
        }
        loop {
            if self.folders.stir(POLL_INTERVAL).await {
                // Folders may be new ones: a symlink points elsewhere now.
                self.folders.follow([self.path.as_path()]);
            }
            if self.look() {
                return;
            }
        }
    }

    /// Looks at the file. Whether its content is another one than before.
    fn look(&mut self) -> bool {
        let path = self.path.display();
        match content_hash(&self.path) {
            Ok(content) => {
                let changed = self.seen.content != content;
                if !self.seen.readable && !changed {
                    tracing::info!(%path, "configuration file is back, unchanged");
                }
                self.seen = Seen { content, readable: true };
                changed
            }
            // Once, not with each look.
            Err(_) => std::mem::replace(&mut self.seen.readable, false),
        }
    }
}

/// Watches the files that a configuration names: certificates, keys, whatever there is. There may be ten thousand, so
/// a look reads none of them whose time and size are what they were.
#[derive(Debug)]
pub struct FilesWatch {
    seen: BTreeMap<PathBuf, SeenFile>,
    folders: Folders,
}

#[derive(Debug)]
struct SeenFile {
    /// What it was last known to hold; `None`: it could not be read.
    content: Option<Digest>,
    /// `None`: nobody has looked yet, or it is not there.
    stamp: Option<Stamp>,
}

/// When a file was written and made, and its size.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Stamp {
    modified: Option<SystemTime>,
    created: Option<SystemTime>,
    bytes: u64,
}

impl FilesWatch {
    /// Watches nothing yet.
    #[must_use]
    pub fn new() -> Self {
        Self { seen: BTreeMap::new(), folders: Folders::new() }
    }

    /// Watches these files from now on, and no others; with what is in use of those that were not watched before.
    pub fn watch<'f>(&mut self, files: impl Iterator<Item = (&'f PathBuf, Digest)>) {
        let mut seen = std::mem::take(&mut self.seen);
        let mut kept =
            |path: &PathBuf, content| seen.remove(path).unwrap_or(SeenFile { content: Some(content), stamp: None });
        self.seen = files.map(|(path, content)| (path.clone(), kept(path, content))).collect();
        self.follow();
    }

    /// Waits until something may have happened, for a few seconds at most, and looks. Whether a file has another content
    /// than at the last look, or can no longer be read.
    ///
    /// # Cancel safety
    /// Nothing is lost: what the files hold is compared when this is called again.
    pub async fn changed(&mut self) -> bool {
        // Thousands of files on a file system that cannot be watched are not to keep it busy.
        let poll = if self.seen.len() <= POLLED_FILES_MAX { POLL_INTERVAL } else { LOOK_INTERVAL };
        if self.folders.stir(poll).await {
            self.follow();
        }
        self.seen.iter_mut().fold(false, |changed, (path, seen)| seen.look(path) | changed)
    }

    fn follow(&mut self) {
        self.folders.follow(self.seen.keys().map(PathBuf::as_path));
    }
}

impl Default for FilesWatch {
    fn default() -> Self {
        Self::new()
    }
}

impl SeenFile {
    fn look(&mut self, path: &Path) -> bool {
        let stamp = std::fs::metadata(path).ok().map(|metadata| Stamp {
            modified: metadata.modified().ok(),
            created: metadata.created().ok(),
            bytes: metadata.len(),
        });
        if stamp.is_some() && stamp == self.stamp {
            return false;
        }
        let content = std::fs::read(path).ok().map(|bytes| Digest::of(&bytes));
        self.stamp = stamp;
        std::mem::replace(&mut self.content, content) != content
    }
}

/// The folders in which some files lie, and that something has happened there.
#[derive(Debug)]
struct Folders {
    events: mpsc::Receiver<()>,
    /// `None`: the system cannot watch.
    watcher: Option<RecommendedWatcher>,
    watched: BTreeSet<PathBuf>,
}

impl Folders {
    fn new() -> Self {
        // One place: an event that finds one waiting says nothing new.
        let (sender, events) = mpsc::channel(1);
        let watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
            // Reading is what the watch itself does; without this it would wake itself for ever.
            let read_only = event.as_ref().is_ok_and(|event| event.kind.is_access());
            if !read_only {
                let _waiting_already = sender.try_send(()).is_err();
            }
        });
        let mut folders = Self { events, watcher: None, watched: BTreeSet::new() };
        match watcher {
            Ok(watcher) => folders.watcher = Some(watcher),
            Err(error) => folders.fall_back(&error),
        }
        folders
    }

    /// Waits for an event, and for the folders to be quiet after it, but no longer than files can go without a look;
    /// that is `poll` where the system cannot watch. Whether there was an event.
    async fn stir(&mut self, poll: Duration) -> bool {
        let interval = if self.watcher.is_some() { LOOK_INTERVAL } else { poll };
        if let Ok(Some(())) = timeout(interval, self.events.recv()).await {
            self.quiet().await;
            return true;
        }
        if self.watcher.is_none() && self.events.is_closed() {
            // The sender went with the watcher: `recv` returned at once.
            tokio::time::sleep(interval).await;
        }
        false
    }

    /// Waits for the events to stop for a moment.
    async fn quiet(&mut self) {
        let latest = Instant::now() + QUIET_WAIT_MAX;
        loop {
            let quiet = Instant::now() + QUIET;
            // `recv` is cancel-safe; an event that loses against the clock is seen by the next call.
            tokio::select! {
                event = self.events.recv() => if event.is_none() || Instant::now() >= latest { return },
                () = sleep_until(quiet) => return,
            }
        }
    }

    /// Watches the folders that these files are reached through now, and no others.
    fn follow<'f>(&mut self, files: impl IntoIterator<Item = &'f Path>) {
        let Some(watcher) = &mut self.watcher else { return };
        let folders: BTreeSet<_> = files.into_iter().flat_map(folders).collect();
        for gone in self.watched.difference(&folders) {
            // Fails when the folder itself is gone, and the watch with it.
            let _gone_already = watcher.unwatch(gone).is_err();
        }
        // Added again also where it is watched already: the folder of that name may be another one by now.
        let added: notify::Result<()> =
            folders.iter().try_for_each(|folder| watcher.watch(folder, RecursiveMode::NonRecursive));
        self.watched = folders;
        if let Err(error) = added {
            self.fall_back(&error);
        }
    }

    fn fall_back(&mut self, error: &notify::Error) {
        tracing::warn!(%error, "files cannot be watched, they are looked at instead");
        self.watcher = None;
    }
}

fn content_hash(path: &Path) -> io::Result<String> {
    std::fs::read(path).map(|bytes| fingerprint(&bytes))
}

/// The folders in which the file, every symlink on the way to it, and its content lie; those that exist.
fn folders(path: &Path) -> BTreeSet<PathBuf> {
    let mut folders = BTreeSet::new();
    let mut path = std::path::absolute(path).unwrap_or_else(|_| path.to_path_buf());
    for _ in 0..LINKS_MAX {
        let Some(folder) = path.parent().map(Path::to_path_buf) else { break };
        folders.extend(folder.canonicalize());
        // A folder on the way may be a symlink as well (`/srv/current/…`): a swap shows in the folder it lies in.
        let links = folder.ancestors().filter(|folder| folder.is_symlink()).filter_map(Path::parent);
        folders.extend(links.filter_map(|folder| folder.canonicalize().ok()));
        let Ok(target) = path.read_link() else { break };
        path = folder.join(target);
    }
    folders.extend(path.canonicalize().ok().and_then(|path| path.parent().map(Path::to_path_buf)));
    folders
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    /// A folder of its own for each test, removed with it.
    struct Folder(PathBuf);

    impl Folder {
        fn new(name: &str) -> Self {
            let path = std::env::temp_dir().join(format!("plimsoll-watch-{}-{name}", std::process::id()));
            fs::create_dir_all(&path).unwrap();
            Self(path.canonicalize().unwrap())
        }

        fn path(&self, name: &str) -> PathBuf {
            self.0.join(name)
        }
    }

    impl Drop for Folder {
        fn drop(&mut self) {
            fs::remove_dir_all(&self.0).unwrap();
        }
    }

    fn watching(path: &Path) -> Watch {
        Watch::start(path, &content_hash(path).unwrap())
    }

    async fn changes(watch: &mut Watch) -> bool {
        timeout(Duration::from_secs(5), watch.changed()).await.is_ok()
    }

    /// Longer than `QUIET`, shorter than the intervals at which the file is looked at anyway.
    async fn stays(watch: &mut Watch) -> bool {
        timeout(QUIET * 3, watch.changed()).await.is_err()
    }

    #[tokio::test]
    async fn a_rewritten_file_is_a_change_and_a_touched_one_is_not() {
        let folder = Folder::new("rewritten");
        let file = folder.path("a.toml");
        fs::write(&file, "one").unwrap();
        let mut watch = watching(&file);
        fs::write(&file, "one").unwrap();
        fs::write(folder.path("a.toml~"), "backup").unwrap();
        assert!(stays(&mut watch).await);
        fs::write(&file, "two").unwrap();
        assert!(changes(&mut watch).await);
        assert!(stays(&mut watch).await);
    }

    #[tokio::test]
    async fn what_happened_before_the_watch_began_is_seen_at_once() {
        let folder = Folder::new("before");
        let file = folder.path("a.toml");
        fs::write(&file, "one").unwrap();
        let mut changed = Watch::start(&file, "the hash of an older content");
        assert!(!stays(&mut changed).await);
        fs::remove_file(&file).unwrap();
        let mut vanished = Watch::start(&file, "the hash of an older content");
        assert!(!stays(&mut vanished).await);
    }

    #[tokio::test]
    async fn a_file_that_an_editor_replaces_is_seen_each_time() {
        let folder = Folder::new("replaced");
        let file = folder.path("a.toml");
        fs::write(&file, "0").unwrap();
        let mut watch = watching(&file);
        for round in 1..4 {
            fs::write(folder.path("a.new"), round.to_string()).unwrap();
            fs::rename(folder.path("a.new"), &file).unwrap();
            assert!(changes(&mut watch).await, "round {round}");
        }
    }

    #[tokio::test]
    async fn a_file_that_vanishes_is_a_change_and_is_none_when_it_returns_as_it_was() {
        let folder = Folder::new("vanished");
        let file = folder.path("a.toml");
        fs::write(&file, "one").unwrap();
        let mut watch = watching(&file);
        fs::remove_file(&file).unwrap();
        assert!(changes(&mut watch).await);
        assert!(stays(&mut watch).await, "told once");
        fs::write(&file, "one").unwrap();
        assert!(stays(&mut watch).await);
        fs::write(&file, "two").unwrap();
        assert!(changes(&mut watch).await);
    }

    #[tokio::test]
    async fn files_that_a_configuration_names_are_seen_to_change_to_vanish_and_to_return() {
        let folder = Folder::new("named");
        let (one, two) = (folder.path("one.pem"), folder.path("two.pem"));
        fs::write(&one, "1").unwrap();
        fs::write(&two, "2").unwrap();
        let mut watch = FilesWatch::new();
        let (known, other) = (Digest::of(b"1"), Digest::of(b"another"));
        watch.watch([(&one, known)].into_iter());
        fs::write(&two, "not watched").unwrap();
        assert!(!watch.changed().await);
        watch.watch([(&one, known), (&two, other)].into_iter());
        fs::write(&one, "1").unwrap();
        assert!(watch.changed().await, "what is in use is not what the file holds");
        fs::remove_file(&one).unwrap();
        assert!(watch.changed().await);
        fs::write(&one, "1").unwrap();
        assert!(watch.changed().await);
        fs::write(&one, "1").unwrap();
        assert!(!watch.changed().await);
    }

    #[tokio::test]
    async fn where_the_system_cannot_watch_the_file_is_looked_at() {
        let folder = Folder::new("polled");
        let file = folder.path("a.toml");
        fs::write(&file, "one").unwrap();
        let mut watch = watching(&file);
        watch.folders.fall_back(&notify::Error::new(notify::ErrorKind::MaxFilesWatch));
        fs::write(&file, "two").unwrap();
        assert!(changes(&mut watch).await);
        fs::write(folder.path("a.new"), "three").unwrap();
        fs::rename(folder.path("a.new"), &file).unwrap();
        assert!(changes(&mut watch).await, "also after it was replaced");
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_swap_of_symlinks_as_kubernetes_does_it_is_seen_each_time() {
        use std::os::unix::fs::symlink;
        let folder = Folder::new("swapped");
        let swap = |round: u32| {
            let version = format!("..{round}");
            fs::create_dir(folder.path(&version)).unwrap();
            fs::write(folder.path(&version).join("a.toml"), round.to_string()).unwrap();
            symlink(&version, folder.path("..data_tmp")).unwrap();
            fs::rename(folder.path("..data_tmp"), folder.path("..data")).unwrap();
            if round > 0 {
                fs::remove_dir_all(folder.path(&format!("..{}", round - 1))).unwrap();
            }
        };
        swap(0);
        symlink("..data/a.toml", folder.path("a.toml")).unwrap();
        let mut watch = watching(&folder.path("a.toml"));
        for round in 1..4 {
            swap(round);
            assert!(changes(&mut watch).await, "round {round}");
        }
    }

    #[cfg(unix)]
    #[tokio::test]
    async fn a_change_behind_a_symlink_to_another_folder_is_seen() {
        let folder = Folder::new("linked");
        fs::create_dir(folder.path("real")).unwrap();
        fs::create_dir(folder.path("etc")).unwrap();
        fs::write(folder.path("real/a.toml"), "one").unwrap();
        std::os::unix::fs::symlink(folder.path("real/a.toml"), folder.path("etc/a.toml")).unwrap();
        let mut watch = watching(&folder.path("etc/a.toml"));
        fs::write(folder.path("real/a.toml"), "two").unwrap();
        assert!(changes(&mut watch).await);
    }
}
