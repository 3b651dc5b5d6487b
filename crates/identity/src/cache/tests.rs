//! The cache under a paused clock, with a real authority behind a source that counts, delays and fails on demand.

use super::*;
use crate::{
    issuer::{Issuer, KeyKind},
    source::IssuerSource,
};
use futures_util::FutureExt as _;
use jiff::Timestamp;
use std::collections::VecDeque;

const TTL: Duration = Duration::from_secs(1_000);
const SECOND: Duration = Duration::from_secs(1);

fn identity(account: &str) -> Identity {
    Identity::new("cluster.local", "shop", account).unwrap()
}

#[derive(Default)]
struct Log {
    started: Vec<String>,
    running: usize,
    most: usize,
    failures: VecDeque<bool>,
}

/// An authority that takes a second per answer.
struct Slow {
    source: IssuerSource,
    log: Arc<Mutex<Log>>,
}

impl CertificateSource for Slow {
    fn fetch<'a>(&'a self, identity: &'a Identity) -> BoxFuture<'a, Result<WorkloadCertificate, FetchError>> {
        async move {
            let fails = {
                let mut log = self.log.lock();
                log.started.push(identity.service_account.to_string());
                log.running += 1;
                log.most = log.most.max(log.running);
                log.failures.pop_front().unwrap_or(false)
            };
            tokio::time::sleep(SECOND).await;
            self.log.lock().running -= 1;
            if fails { Err(FetchError::Timeout(SECOND)) } else { self.source.certificate(identity) }
        }
        .boxed()
    }
}

struct Bench {
    certificates: Certificates,
    log: Arc<Mutex<Log>>,
    clock: Clock,
}

impl Bench {
    /// A cache whose first fetches fail as told.
    fn new(failures: &[bool]) -> Self {
        let clock = Clock::manual(Timestamp::from_second(1_790_000_000).unwrap());
        let issuer = Issuer::self_signed("cluster.local", KeyKind::EcdsaP256, clock.now()).unwrap();
        let log = Arc::new(Mutex::new(Log { failures: failures.iter().copied().collect(), ..Log::default() }));
        let source = IssuerSource::new(Arc::new(issuer), TTL, clock.clone());
        let (certificates, driver) = Certificates::new(Arc::new(Slow { source, log: log.clone() }), clock.clone());
        tokio::spawn(driver);
        Self { certificates, log, clock }
    }

    /// Lets both clocks run, as they do outside of tests.
    async fn pass(&self, time: Duration) {
        self.clock.advance(time);
        tokio::time::sleep(time).await;
    }

    fn fetches(&self) -> usize {
        self.log.lock().started.len()
    }
}

#[tokio::test(start_paused = true)]
async fn many_who_ask_are_one_request_and_a_hit_costs_none() {
    let bench = Bench::new(&[]);
    let web = identity("web");
    let asked = futures_util::future::join_all((0..50).map(|_| bench.certificates.get(&web))).await;
    let first = asked[0].clone().unwrap();
    assert!(asked.iter().all(|got| Arc::ptr_eq(got.as_ref().unwrap(), &first)));
    let hit = bench.certificates.get(&web).now_or_never().unwrap().unwrap();
    assert!(Arc::ptr_eq(&hit, &first));
    assert_eq!(bench.fetches(), 1);
}

#[tokio::test(start_paused = true)]
async fn prefetches_run_in_parallel_within_the_limit_and_connections_overtake_them() {
    let bench = Bench::new(&[]);
    for n in 0..CONCURRENCY * 3 {
        bench.certificates.prefetch(&identity(&format!("warm-{n}")));
    }
    let real = bench.certificates.get(&identity(&format!("warm-{}", CONCURRENCY * 3 - 1))).await;
    assert!(real.is_ok());
    let log = bench.log.lock();
    assert_eq!(log.most, CONCURRENCY);
    let place = log.started.iter().position(|name| *name == format!("warm-{}", CONCURRENCY * 3 - 1)).unwrap();
    assert!(place <= CONCURRENCY, "it was number {place}");
}

#[tokio::test(start_paused = true)]
async fn a_certificate_is_renewed_around_its_half_life_and_the_new_one_is_served() {
    let bench = Bench::new(&[]);
    let old = bench.certificates.get(&identity("web")).await.unwrap();
    bench.pass(TTL * 3 / 10).await;
    assert_eq!(bench.fetches(), 1, "too early");
    bench.pass(TTL * 3 / 10).await;
    assert_eq!(bench.fetches(), 2);
    let new = bench.certificates.get(&identity("web")).await.unwrap();
    assert_ne!(new.chain()[0].serial, old.chain()[0].serial);
}

#[tokio::test(start_paused = true)]
async fn a_failing_renewal_keeps_the_certificate_until_it_ends() {
    let mut failures = vec![true; 1_000];
    failures[0] = false;
    let bench = Bench::new(&failures);
    bench.certificates.get(&identity("web")).await.unwrap();
    for _ in 0..95 {
        bench.pass(TTL / 100).await;
        assert!(bench.certificates.get(&identity("web")).now_or_never().unwrap().is_ok());
    }
    assert!(bench.fetches() > 3, "renewals were tried");
    bench.pass(TTL).await;
    assert!(bench.certificates.present(&identity("web")).is_none());
    assert!(matches!(bench.certificates.dump()[0].1, CertificateState::Unavailable(_)));
    assert!(matches!(bench.certificates.get(&identity("web")).await, Err(CertificateError::Unavailable { .. })));
}

#[tokio::test(start_paused = true)]
async fn a_connection_after_a_bad_moment_gets_its_certificate_within_seconds() {
    let bench = Bench::new(&[true; 8]);
    let web = identity("web");
    bench.certificates.prefetch(&web);
    bench.pass(Duration::from_secs(200)).await;
    assert_eq!(bench.fetches(), 8, "the pause is long by now");
    let asked = Instant::now();
    assert!(bench.certificates.get(&web).await.is_ok());
    assert!(asked.elapsed() <= SECOND * 3, "{:?}", asked.elapsed());
}

#[tokio::test(start_paused = true)]
async fn a_storm_of_connections_does_not_hammer_the_authority() {
    let bench = Bench::new(&[true; 10_000]);
    let web = identity("web");
    let begun = Instant::now();
    for _ in 0..1_000 {
        assert!(bench.certificates.get(&web).await.is_err());
        bench.pass(Duration::from_millis(10)).await;
    }
    // An attempt takes a second, and the next begins a second later at the earliest.
    assert!(bench.fetches() as u64 <= begun.elapsed().as_secs() / 2 + 1, "{} requests", bench.fetches());
}

#[tokio::test(start_paused = true)]
async fn those_who_wait_for_a_forgotten_identity_are_told() {
    let bench = Bench::new(&[]);
    let web = identity("web");
    let (asked, ()) = tokio::join!(bench.certificates.get(&web), async {
        tokio::time::sleep(SECOND / 2).await;
        bench.certificates.forget(&web);
    });
    assert!(matches!(asked, Err(CertificateError::Forgotten(_))));
    bench.pass(SECOND * 5).await;
    assert!(bench.certificates.dump().is_empty(), "the late answer is discarded");
    assert!(bench.certificates.get(&web).await.is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_source_that_panics_is_a_failure_like_others() {
    struct Broken;
    impl CertificateSource for Broken {
        fn fetch<'a>(&'a self, _: &'a Identity) -> BoxFuture<'a, Result<WorkloadCertificate, FetchError>> {
            panic!("on purpose")
        }
    }
    let (certificates, driver) = Certificates::new(Arc::new(Broken), Clock::system());
    tokio::spawn(driver);
    for _ in 0..2 {
        let error = certificates.get(&identity("web")).await.unwrap_err();
        assert!(error.to_string().contains("panic"), "{error}");
        tokio::time::sleep(SECOND * 2).await;
    }
}

#[tokio::test(start_paused = true)]
async fn what_was_sealed_serves_in_another_process_without_the_authority_until_it_ends() {
    let bench = Bench::new(&[]);
    let (web, db) = (identity("web"), identity("db"));
    let serial = bench.certificates.get(&web).await.unwrap().chain()[0].serial.clone();
    bench.certificates.get(&db).await.unwrap();
    bench.certificates.forget(&db);
    assert_eq!(*bench.certificates.changes().borrow(), 3, "two came, one went");
    let sealed = bench.certificates.seal().unwrap();

    let settings = crate::tls::TlsSettings::default();
    let gone = vec![true; 10_000];
    let other = Bench::new(&gone);
    assert_eq!(other.certificates.restore(&sealed, &settings).unwrap(), 1);
    let restored = other.certificates.present(&web).unwrap();
    assert_eq!(restored.chain()[0].serial, serial);
    assert!(other.certificates.present(&db).is_none());
    other.pass(TTL / 2).await;
    assert!(other.certificates.present(&web).is_some(), "renewals fail, the old one holds");
    other.pass(TTL).await;
    assert!(other.certificates.present(&web).is_none(), "at its end it is closed");

    let late = Bench::new(&gone);
    late.clock.advance(TTL + SECOND);
    assert_eq!(late.certificates.restore(&sealed, &settings).unwrap(), 0);
}
