//! Logs of containers: one file per start, each line in the form that kubelets and log collectors use
//! (`time stream F|P text`). Files are not rotated; they go with the pod.

use std::io;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use tokio::fs::File;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::sync::Mutex;

/// Longest piece of a line in one record; longer lines are split, as container runtimes do.
const PIECE: u64 = 16 * 1024;

/// Which stream of the container a record comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stream {
    Out,
    Err,
}

impl Stream {
    const fn name(self) -> &'static str {
        match self {
            Self::Out => "stdout",
            Self::Err => "stderr",
        }
    }
}

/// The folder of a container's log files.
pub(super) fn folder(logs: &Path, namespace: &str, pod: &str, uid: &str, container: &str) -> PathBuf {
    logs.join(format!("{namespace}_{pod}_{uid}")).join(container)
}

/// The file of one start.
pub(super) fn file(folder: &Path, restart: i32) -> PathBuf {
    folder.join(format!("{restart}.log"))
}

/// Both ends of a container's output: what it writes to, and the task that keeps it.
pub(super) struct Writer {
    file: Arc<Mutex<File>>,
}

impl Writer {
    pub(super) async fn create(path: &Path) -> io::Result<Self> {
        if let Some(folder) = path.parent() {
            tokio::fs::create_dir_all(folder).await?;
        }
        let file = tokio::fs::OpenOptions::new().create(true).append(true).open(path).await?;
        Ok(Self { file: Arc::new(Mutex::new(file)) })
    }

    /// A pipe whose other end is written to the file until it is closed.
    pub(super) fn pipe(&self, stream: Stream) -> io::Result<OwnedFd> {
        let (read, write) = io::pipe()?;
        let read = tokio::net::unix::pipe::Receiver::from_owned_fd(read.into())?;
        let file = self.file.clone();
        runtime::task::spawn("container log", async move {
            if let Err(error) = keep(read, stream, &file).await {
                tracing::warn!(%error, "a container's log ends early");
            }
        });
        Ok(write.into())
    }
}

async fn keep(read: impl tokio::io::AsyncRead + Unpin, stream: Stream, file: &Mutex<File>) -> io::Result<()> {
    let mut read = BufReader::with_capacity(32 * 1024, read);
    let mut piece = Vec::new();
    loop {
        piece.clear();
        if (&mut read).take(PIECE).read_until(b'\n', &mut piece).await? == 0 {
            return Ok(());
        }
        let record = record(jiff::Timestamp::now(), stream, &piece);
        let mut file = file.lock().await;
        file.write_all(&record).await?;
        // Readers follow the file itself.
        file.flush().await?;
    }
}

fn record(now: jiff::Timestamp, stream: Stream, piece: &[u8]) -> Vec<u8> {
    let whole = piece.strip_suffix(b"\n");
    let tag = if whole.is_some() { "F" } else { "P" };
    let mut record = format!("{now:.9} {} {tag} ", stream.name()).into_bytes();
    record.extend_from_slice(whole.unwrap_or(piece));
    record.push(b'\n');
    record
}

/// Which records a reader wants.
#[derive(Debug, Clone, Default, PartialEq)]
pub(super) struct Selection {
    pub(super) since: Option<jiff::Timestamp>,
    pub(super) timestamps: bool,
}

/// What of a record the reader is shown; nothing for records before its time. A line that is no record is shown as it is.
pub(super) fn shown(line: &[u8], selection: &Selection) -> Option<Vec<u8>> {
    let mut parts = line.splitn(4, |byte| *byte == b' ');
    let (Some(time), Some(_), Some(tag), Some(text)) = (parts.next(), parts.next(), parts.next(), parts.next()) else {
        return Some([line, b"\n"].concat());
    };
    let time = String::from_utf8_lossy(time);
    if let (Some(since), Ok(at)) = (selection.since, time.parse::<jiff::Timestamp>())
        && at < since
    {
        return None;
    }
    let mut shown = if selection.timestamps { format!("{time} ").into_bytes() } else { Vec::new() };
    shown.extend_from_slice(text);
    if tag == b"F" {
        shown.push(b'\n');
    }
    Some(shown)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(text: &str) -> jiff::Timestamp {
        text.parse().unwrap()
    }

    #[rstest::rstest]
    #[case(b"hello\n", "2026-01-02T03:04:05.000000000Z stdout F hello\n")]
    #[case(b"hel", "2026-01-02T03:04:05.000000000Z stdout P hel\n")]
    fn records(#[case] piece: &[u8], #[case] expected: &str) {
        assert_eq!(String::from_utf8(record(at("2026-01-02T03:04:05Z"), Stream::Out, piece)).unwrap(), expected);
    }

    #[rstest::rstest]
    #[case::plain(None, false, Some("a b\n"))]
    #[case::with_time(None, true, Some("2026-01-02T03:04:05.000000000Z a b\n"))]
    #[case::after(Some("2026-01-02T03:04:04Z"), false, Some("a b\n"))]
    #[case::before(Some("2026-01-02T03:04:06Z"), false, None)]
    fn selections(#[case] since: Option<&str>, #[case] timestamps: bool, #[case] expected: Option<&str>) {
        let line = b"2026-01-02T03:04:05.000000000Z stderr F a b";
        let selection = Selection { since: since.map(at), timestamps };
        assert_eq!(shown(line, &selection).map(|text| String::from_utf8(text).unwrap()).as_deref(), expected);
    }

    #[tokio::test]
    async fn a_long_line_is_kept_in_pieces() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/0.log");
        let writer = Writer::create(&path).await.unwrap();
        let long = "x".repeat(20_000);
        keep(format!("{long}\nshort\n").as_bytes(), Stream::Err, &writer.file).await.unwrap();
        let text = std::fs::read_to_string(path).unwrap();
        let tags: Vec<_> = text.lines().map(|line| line.split(' ').nth(2).unwrap()).collect();
        assert_eq!(tags, ["P", "F", "F"]);
        let all = Selection::default();
        let shown: Vec<u8> = text.lines().filter_map(|line| shown(line.as_bytes(), &all)).flatten().collect();
        assert_eq!(String::from_utf8(shown).unwrap(), format!("{long}\nshort\n"));
    }
}
