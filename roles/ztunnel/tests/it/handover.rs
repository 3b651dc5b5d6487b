//! One worker after the other, and one keeper after the other: what was open goes on, what comes meanwhile is served.

use crate::{
    World, greeting,
    lab::{self, Pod},
    mesh,
};
use linux::netns::NetNs;
use std::{
    io::{Read, Write},
    net::TcpStream,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

const SERVICE: &str = "10.96.0.80:80";

/// New connections, one after the other from several threads, each with its own bytes to and fro.
struct Load {
    stop: Arc<AtomicBool>,
    threads: Vec<thread::JoinHandle<(Vec<String>, Vec<Duration>)>>,
}

impl Load {
    fn start(client: &Pod, threads: u8) -> Self {
        let stop = Arc::new(AtomicBool::new(false));
        let run = |number: u8| {
            let (stop, pod) =
                (stop.clone(), Pod { namespace: NetNs::clone(&client.namespace), address: client.address });
            thread::spawn(move || {
                let (mut failures, mut times) = (Vec::new(), Vec::new());
                while !stop.load(Ordering::Relaxed) {
                    let begun = Instant::now();
                    if let Err(error) = pod.exchange(SERVICE, &[number; 4096]) {
                        failures.push(error.to_string());
                    }
                    times.push(begun.elapsed());
                }
                (failures, times)
            })
        };
        Self { threads: (0..threads).map(run).collect(), stop }
    }

    /// Nothing may have failed; how many exchanges there were and how long the slowest took.
    fn end(self, what: &str) {
        self.stop.store(true, Ordering::Relaxed);
        let (mut failures, mut times) = (Vec::new(), Vec::new());
        for thread in self.threads {
            let (failed, took) = thread.join().unwrap();
            failures.extend(failed);
            times.extend(took);
        }
        times.sort();
        let p99 = times.get(times.len() * 99 / 100);
        println!("{what}: {} connections, p99 {p99:?}, slowest {:?}", times.len(), times.last());
        assert_eq!(failures, [""; 0], "{what}");
        assert!(!times.is_empty(), "{what}: there was a load");
    }
}

fn open(client: &Pod) -> TcpStream {
    let mut stream = client.connect(SERVICE).unwrap();
    greeting(&mut stream).unwrap();
    stream
}

fn echo(stream: &mut TcpStream, text: &[u8]) {
    stream.write_all(text).unwrap();
    let mut back = vec![0; text.len()];
    stream.read_exact(&mut back).unwrap();
    assert_eq!(back, text);
}

fn upgrades(count: u8, long_lived: usize) {
    let world = World::new(&mesh("", ""));
    let mut long: Vec<_> = (0..long_lived).map(|_| open(&world.client)).collect();
    let load = Load::start(&world.client, 4);
    let mut workers = Vec::new();
    for round in 0..count {
        // Both ends of the tunnels are replaced in turn.
        let node = if round % 2 == 0 { &world.n2 } else { &world.n1 };
        workers.push(node.upgrade());
        long.iter_mut().for_each(|stream| echo(stream, &[round; 512]));
        long.push(open(&world.client));
    }
    load.end("planned upgrades");
    long.iter_mut().for_each(|stream| echo(stream, b"still"));
    // Workers end last first, so that the pods do not go back to a retired one.
    drop(long);
    workers.into_iter().for_each(drop);
}

#[test]
fn planned_upgrades_refuse_nothing_cut_nothing_and_change_nothing() {
    upgrades(3, 40);
}

#[test]
#[ignore = "minutes of load, for a quiet machine"]
fn twenty_planned_upgrades_with_a_thousand_open_connections() {
    upgrades(20, 1_000);
}

#[test]
fn connections_wait_for_the_next_worker_which_needs_no_authority() {
    let mut world = World::new(&mesh("", ""));
    let mut lost = open(&world.client);
    world.n2.until_kept();
    world.n2.kill();
    assert!(!matches!(lost.read(&mut [0; 1]), Ok(1)), "what a killed worker carried is lost");
    let load = Load::start(&world.client, 2);
    let begun = Instant::now();
    let next = world.n2.successor_without_authority();
    world.client.exchange(SERVICE, b"queued").unwrap();
    println!("served {:?} after the next worker began to start", begun.elapsed());
    for round in 0..20u8 {
        world.client.exchange(SERVICE, &[round]).unwrap();
    }
    load.end("a worker killed");
    drop(next);
}

#[test]
fn a_keeper_that_dies_takes_nothing_with_it() {
    let mut world = World::new(&mesh("", ""));
    world.n2.ready();
    world.n2.until_kept();
    let mut kept = open(&world.client);
    let load = Load::start(&world.client, 2);
    world.n2.replace_keeper();
    world.n2.meet_keeper();
    echo(&mut kept, b"through it");
    assert_eq!(world.n2.add("uid-server", "server", "server", &world.server), "");
    world.n2.snapshot();
    world.n2.ready();
    for round in 0..20u8 {
        world.client.exchange(SERVICE, &[round]).unwrap();
    }
    load.end("a keeper replaced");

    // The new keeper has what the old one had: the worker can crash now, without an authority.
    world.n2.until_kept();
    world.n2.kill();
    let next = world.n2.successor_without_authority();
    world.client.exchange(SERVICE, b"served").unwrap();
    drop(next);
}

#[test]
fn a_retired_worker_serves_again_when_its_successor_dies() {
    let world = World::new(&mesh("", ""));
    let mut first = open(&world.client);
    drop(world.n2.upgrade());
    echo(&mut first, b"never cut");
    let begun = Instant::now();
    world.client.exchange(SERVICE, b"again").unwrap();
    assert!(begun.elapsed() < lab::PATIENCE);
}
