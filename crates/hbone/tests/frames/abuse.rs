//! A peer that speaks HTTP/2 and means harm (threats A3 and A4): each attack ends with the attacker's connection within a second, or
//! costs nothing; what is counted here are frames and answers, never time that a machine took.

use crate::server;
use hbone::ServerOptions;
use rstest::rstest;
use std::time::Duration;
use testkit::http2::{
    Event, Frame, Peer, bytes, code, flag,
    hpack::{AUTHORITY, Block, Indexing, METHOD},
    kind, setting,
};
use tokio::{io::DuplexStream, time::Instant};

/// Frames of one attack; every honest peer stays far below.
const FLOOD: usize = 200_000;

async fn attacker() -> Peer<DuplexStream> {
    let mut peer = Peer::new(server::dial(ServerOptions::default().engine));
    peer.greet(&[]).await.unwrap();
    peer
}

/// Writes an attack in pieces until the server has had enough; the code of its GOAWAY, and how many pieces it took.
async fn until_closed(mut peer: Peer<DuplexStream>, pieces: impl Iterator<Item = Vec<u8>>) -> (Option<u32>, usize) {
    let begun = Instant::now();
    let mut taken = 0;
    for piece in pieces {
        peer.send(&piece).await;
        taken += 1;
        while !peer.has_ended() && peer.try_next().is_some() {}
        if peer.has_ended() {
            break;
        }
    }
    while !peer.has_ended() && peer.next().await.is_some() {}
    assert!(peer.has_ended(), "the attacker is still served");
    assert!(begun.elapsed() < Duration::from_secs(1), "closed after {:?}", begun.elapsed());
    (peer.goaway(), taken)
}

/// The same bytes in portions of 64.
fn repeated(frame: &Frame) -> impl Iterator<Item = Vec<u8>> + use<> {
    std::iter::repeat_n(frame.bytes().repeat(64), FLOOD / 64)
}

#[rstest]
#[case::ping(Frame::ping([7; 8]))]
#[case::settings(Frame::settings(&[(setting::INITIAL_WINDOW_SIZE, 65_535)]))]
#[case::empty_settings(Frame::settings(&[]))]
#[case::priority(Frame::priority(9, 0))]
#[case::unknown(Frame::new(0xbb, 0, 0, []))]
#[tokio::test(start_paused = true)]
async fn a_flood_of_frames_that_carry_nothing_ends_its_connection(#[case] frame: Frame) {
    let (reason, _) = until_closed(attacker().await, repeated(&frame)).await;
    assert_eq!(reason, Some(code::ENHANCE_YOUR_CALM));
}

#[tokio::test(start_paused = true)]
async fn a_flood_of_empty_data_ends_its_connection() {
    let mut peer = attacker().await;
    assert_eq!(peer.connect(1, &server::target().echo).await.unwrap(), 200);
    let (reason, _) = until_closed(peer, repeated(&Frame::data(1, []))).await;
    assert_eq!(reason, Some(code::ENHANCE_YOUR_CALM));
}

#[tokio::test(start_paused = true)]
async fn streams_that_are_reset_as_soon_as_they_are_asked_for_end_their_connection() {
    let block = Vec::from(Block::connect(&server::target().echo));
    let pairs = (0..FLOOD as u32).map(|n| {
        let stream = 2 * n + 1;
        bytes(&[Frame::headers(stream, &block[..]), Frame::reset(stream, code::CANCEL)])
    });
    // Many at a time: the server has not answered any of them when it reads the next.
    let pairs: Vec<_> = pairs.collect();
    let portions = pairs.chunks(64).map(|portion| portion.concat()).collect::<Vec<_>>();
    let (reason, _) = until_closed(attacker().await, portions.into_iter()).await;
    assert_eq!(reason, Some(code::ENHANCE_YOUR_CALM));
}

#[rstest]
#[case::window_of_nothing(|stream| Frame::window(stream, 0))]
#[case::window_beyond_bounds(|stream| Frame::window(stream, (1 << 31) - 1))]
#[case::second_request(|stream| Frame::headers(stream, Block::connect("10.0.0.2:8080")))]
#[tokio::test(start_paused = true)]
async fn streams_that_make_the_server_reset_them_end_their_connection(#[case] fault: fn(u32) -> Frame) {
    let block = Vec::from(Block::connect(&server::target().echo));
    let pairs: Vec<_> =
        (0..50_000_u32).map(|n| bytes(&[Frame::headers(2 * n + 1, &block[..]), fault(2 * n + 1)])).collect();
    let portions = pairs.chunks(64).map(|portion| portion.concat()).collect::<Vec<_>>();
    let (reason, _) = until_closed(attacker().await, portions.into_iter()).await;
    assert!(
        matches!(reason, Some(code::ENHANCE_YOUR_CALM | code::PROTOCOL_ERROR | code::FLOW_CONTROL_ERROR)),
        "{reason:?}"
    );
}

#[rstest]
#[case::empty(Vec::new())]
#[case::small(Vec::from(Block::new().field("a", "b")))]
#[case::large(Vec::from(Block::new().field("x-filler", "f".repeat(16_000))))]
#[tokio::test(start_paused = true)]
async fn a_block_without_end_ends_its_connection(#[case] piece: Vec<u8>) {
    let begun = Frame::headers(1, Block::connect(&server::target().echo)).with_flags(0).bytes();
    let endless = std::iter::repeat_n(Frame::continuation(1, piece, false).bytes(), 10_000);
    let (reason, frames) = until_closed(attacker().await, std::iter::once(begun).chain(endless)).await;
    assert!(matches!(reason, Some(code::ENHANCE_YOUR_CALM | code::PROTOCOL_ERROR)), "{reason:?}");
    println!("closed after {frames} frames");
}

/// 4,000 bytes in the table and thousands of references to them: what counts is what they decode to.
#[tokio::test(start_paused = true)]
async fn a_header_bomb_reaches_nobody() {
    let mut peer = attacker().await;
    let first = Block::connect(&server::target().echo).literal(Indexing::With, "cookie", "c".repeat(3_900));
    let bomb = (0..10_000).fold(first, |block, _| block.indexed(62));
    let bomb = Vec::from(bomb);
    assert!(bomb.len() < 16_384);
    peer.send(&Frame::headers(1, bomb).bytes()).await;
    refused(&mut peer).await;
}

#[rstest]
#[case::one_value_of_70_000_bytes(Block::new().field(METHOD, "CONNECT").field(AUTHORITY, "10.0.0.2:8080").field("x", "v".repeat(70_000)))]
#[case::one_name_of_70_000_bytes(Block::new().field(METHOD, "CONNECT").field(AUTHORITY, "10.0.0.2:8080").field(&*"n".repeat(70_000), "v"))]
#[case::twenty_thousand_fields((0..20_000).fold(Block::connect("10.0.0.2:8080"), |block, _| block.field("a", "")))]
#[tokio::test(start_paused = true)]
async fn giant_headers_reach_nobody(#[case] block: Block) {
    let mut peer = attacker().await;
    peer.send(&Frame::headers(1, block).bytes()).await;
    refused(&mut peer).await;
}

/// Answered as too large, reset, or closed; but neither served nor left waiting.
async fn refused(peer: &mut Peer<DuplexStream>) {
    loop {
        let event = peer.next().await.expect("a request that is too large is left waiting");
        match &event {
            Event::Answer(1, ..) => return assert_eq!(event.status(1), Some(431)),
            Event::Frame(frame) if [kind::RST_STREAM, kind::GOAWAY].contains(&frame.kind) => return,
            Event::End => return,
            _ => {}
        }
    }
}

/// Its own tunnels stall; what it is sent stays within the windows it gave, and a sibling is not held up.
#[tokio::test(start_paused = true)]
async fn a_reader_without_a_window_stalls_nobody_else() {
    let target = server::target();
    let mut peer = Peer::new(server::dial(ServerOptions::default().engine));
    peer.greet(&[(setting::INITIAL_WINDOW_SIZE, 0)]).await.unwrap();
    assert_eq!(peer.connect(1, &target.echo).await.unwrap(), 200);
    assert_eq!(peer.connect(3, &target.echo).await.unwrap(), 200);
    peer.send(&bytes(&[Frame::data(1, vec![7; 60_000]), Frame::data(3, b"ping"), Frame::window(3, 4)])).await;
    let data =
        |event: &Event| matches!(event, Event::Frame(frame) if frame.kind == kind::DATA && !frame.payload.is_empty());
    let Event::Frame(answer) = peer.until("the sibling's bytes", data).await.unwrap() else { unreachable!() };
    assert_eq!((answer.stream, &answer.payload[..]), (3, &b"ping"[..]));
}

/// One reader stalls and its peer goes on in tiny frames (reliability R5): at worst it loses its own stream, never its siblings.
#[tokio::test(start_paused = true)]
async fn tiny_frames_for_a_stalled_reader_leave_its_siblings() {
    let target = server::target();
    let mut peer = attacker().await;
    for n in 0..100_u32 {
        assert_eq!(peer.connect(2 * n + 1, &target.echo).await.unwrap(), 200);
    }
    // The echo of stream 1 stalls: nobody takes it. 60,000 bytes, one in each frame.
    for _ in 0..60 {
        peer.send(&Frame::data(1, b"x").bytes().repeat(1_000)).await;
    }
    peer.send(&Frame::window(0, 1 << 20).bytes()).await;
    for stream in [3_u32, 101, 199] {
        peer.send(&Frame::data(stream, b"still").bytes()).await;
        let echo =
            |event: &Event| matches!(event, Event::Frame(frame) if frame.kind == kind::DATA && frame.stream == stream);
        peer.until("a sibling's bytes", echo).await.unwrap();
    }
}

/// Streams beyond the limit are refused one by one, and the connection serves on.
#[tokio::test(start_paused = true)]
async fn streams_beyond_the_limit_are_refused_one_by_one() {
    let mut peer = attacker().await;
    let limit = ServerOptions::default().max_streams;
    let block = Vec::from(Block::connect(&server::target().hold));
    let asked: Vec<_> = (0..limit + 50).map(|n| Frame::headers(2 * n + 1, &block[..])).collect();
    peer.send(&bytes(&asked)).await;
    let (mut served, mut refused) = (0, 0);
    while served + refused < limit + 50 {
        match peer.next().await.expect("every request is answered") {
            Event::Answer(..) => served += 1,
            Event::Frame(frame) if frame.kind == kind::RST_STREAM => {
                assert_eq!(frame.code(), Some(code::REFUSED_STREAM));
                refused += 1;
            }
            Event::End => panic!("the connection ended"),
            Event::Frame(_) => {}
        }
    }
    assert_eq!((served, refused), (limit, 50));
    // The end of one makes room for one.
    peer.send(&Frame::data(1, []).with_flags(flag::END_STREAM).bytes()).await;
    peer.send(&Frame::reset(1, code::CANCEL).bytes()).await;
    assert_eq!(peer.connect(2 * limit + 1001, &server::target().echo).await.unwrap(), 200);
}

/// A window that is opened a byte at a time costs frames of one byte, and no more than was granted.
#[tokio::test(start_paused = true)]
async fn a_window_of_one_byte_at_a_time_is_kept_to() {
    let target = server::target();
    let mut peer = Peer::new(server::dial(ServerOptions::default().engine));
    peer.greet(&[(setting::INITIAL_WINDOW_SIZE, 0)]).await.unwrap();
    assert_eq!(peer.connect(1, &target.echo).await.unwrap(), 200);
    peer.send(&Frame::data(1, vec![7; 1_000]).bytes()).await;
    let mut received = 0;
    for granted in 1..=200 {
        peer.send(&Frame::window(1, 1).bytes()).await;
        while received < granted {
            if let Event::Frame(frame) = peer.next().await.expect("a granted byte is sent")
                && frame.kind == kind::DATA
            {
                received += frame.payload.len();
            }
        }
        assert_eq!(received, granted);
    }
}
