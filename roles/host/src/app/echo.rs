//! The TCP side of `app serve`: answers every line with itself, the pod and the peer, or echoes bytes as they come.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};

use super::whoami::{Server, plain};

/// Longest line that is answered as one; longer ones are answered in pieces.
const LINE_LIMIT: u64 = 64 * 1024;

/// How connections are talked to.
#[derive(Debug, Clone, Copy)]
pub(super) struct Style {
    /// Speak before the client does.
    pub(super) greet: bool,
    /// Echo bytes instead of answering lines.
    pub(super) raw: bool,
}

pub(super) async fn serve(listener: TcpListener, server: Arc<Server>, style: Style) {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let server = server.clone();
                tokio::spawn(async move {
                    if let Err(error) = converse(stream, &server, style).await {
                        println!("tcp error=\"{error}\"");
                    }
                });
            }
            Err(error) => {
                println!("tcp accept error=\"{error}\"");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn converse(mut stream: TcpStream, server: &Server, style: Style) -> io::Result<()> {
    let peer = plain(stream.peer_addr()?);
    println!("tcp open peer={peer}");
    stream.set_nodelay(true)?;
    if style.greet {
        stream.write_all(format!("hello {} peer={peer}\n", server.summary()).as_bytes()).await?;
    }
    let (read, mut write) = stream.split();
    let mut read = BufReader::new(read);
    if style.raw {
        tokio::io::copy_buf(&mut read, &mut write).await?;
    } else {
        let mut line = Vec::new();
        while (&mut read).take(LINE_LIMIT).read_until(b'\n', &mut line).await? > 0 {
            let text = String::from_utf8_lossy(&line);
            let answer = format!("pod={} peer={peer} echo={}\n", server.pod, text.trim_end());
            write.write_all(answer.as_bytes()).await?;
            line.clear();
        }
    }
    write.shutdown().await?;
    println!("tcp close peer={peer}");
    Ok(())
}
