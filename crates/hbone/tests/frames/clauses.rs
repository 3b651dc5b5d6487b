//! Every row of the table, each over a connection of its own.

use crate::server;
use hbone::Engine;
use std::collections::BTreeSet;
use testkit::http2::{
    cases,
    suite::{self, Codes},
};

/// What the `h2` crate lets pass; none of it reaches an application, or a header that anything is decided by.
const LET_PASS: [&str; 6] = [
    "3.4, PING before SETTINGS",
    "3.4, WINDOW_UPDATE before SETTINGS",
    "3.4, a request before SETTINGS",
    "8.1, trailers with a pseudo-field",
    "8.2.1, a value that begins with a space",
    "8.2.1, a value that ends with a tab",
];

#[tokio::test(start_paused = true)]
async fn every_clause_is_kept_by_our_own_framing() {
    every_clause_is_kept(Engine::Own, Codes::Exact, &[]).await;
}

#[tokio::test(start_paused = true)]
async fn every_clause_is_kept_by_the_reference() {
    every_clause_is_kept(Engine::Reference, Codes::Generic, &LET_PASS).await;
}

async fn every_clause_is_kept(engine: Engine, codes: Codes, let_pass: &[&str]) {
    let target = server::target();
    let mut let_pass: BTreeSet<String> = let_pass.iter().map(|&row| row.to_owned()).collect();
    let mut wrong = Vec::new();
    let rows = cases::all(&target);
    for row in &rows {
        let checked = suite::check(server::dial(engine), row, &target, codes).await;
        match (checked, let_pass.remove(&format!("{}, {}", row.clause, row.what))) {
            (Ok(()), false) | (Err(_), true) => {}
            (Ok(()), true) => wrong.push(format!("{}, {}: is refused by now", row.clause, row.what)),
            (Err(error), false) => wrong.push(error.to_string()),
        }
    }
    println!("{} rows", rows.len());
    assert!(
        wrong.is_empty() && let_pass.is_empty(),
        "{} of {} are wrong:\n{}",
        wrong.len(),
        rows.len(),
        wrong.join("\n")
    );
}
