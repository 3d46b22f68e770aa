//! What clients may send.
//!
//! Refused requests are answered with their status, the connection is closed, nothing that came after them is taken for
//! a request, and no instance has seen them whole.

mod framing;
mod hosts;
mod limits;
mod lines;

use super::shown;
use crate::support::message::Response;
use crate::support::{Config, Instance, Proxy};

/// What becomes of a request.
#[derive(Debug, Clone, Copy)]
enum Is {
    /// Answered by Plimsoll with one of these, connection closed, not forwarded whole.
    Refused(&'static [u16]),
    /// Answered by the instance.
    Forwarded,
    /// Either, because the RFC leaves it open; but nothing in between.
    Either(&'static [u16]),
}

use Is::{Either, Forwarded, Refused};

const BAD: Is = Refused(&[400]);

/// Section, name, the bytes sent, and what becomes of them.
type Case = (&'static str, &'static str, &'static [u8], Is);

/// A request that would be smuggled if the one before it ended elsewhere.
const SMUGGLED: &[u8] = b"GET /smuggled HTTP/1.1\r\nHost: a\r\n\r\n";

#[track_caller]
fn check(cases: &[Case]) {
    check_within(b"", b"", cases);
}

/// As [`check`], with what stands around the bytes of each case.
#[track_caller]
fn check_within(before: &[u8], after: &[u8], cases: &[Case]) {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).start();
    let judged = cases
        .iter()
        .map(|(section, name, bytes, is)| judge(&proxy, &api, section, name, &[before, bytes, after].concat(), *is));
    super::assert_all(judged);
}

fn judge(proxy: &Proxy, api: &Instance, section: &str, name: &str, bytes: &[u8], is: Is) -> Result<(), String> {
    api.forget();
    let mut client = proxy.connect();
    let fail = |got: String| {
        Err(format!("RFC {section}: {name}\n    sent:     {}\n    expected: {is:?}\n    got:      {got}", shown(bytes)))
    };
    // The proxy may have refused before it has read all.
    drop(client.wire.write(bytes));
    if !matches!(is, Forwarded) {
        drop(client.wire.write(SMUGGLED));
    }
    let answer = match client.wire.read_response_to("GET") {
        Ok(answer) => answer,
        Err(error) => return fail(format!("no answer: {error}")),
    };
    let received = api.received();
    if received.iter().any(|request| request.head.start.contains("smuggled")) && !is_forwarded(is, &answer) {
        return fail("the next request was smuggled".to_owned());
    }
    let statuses = match is {
        Forwarded => &[][..],
        Refused(statuses) | Either(statuses) => statuses,
    };
    if is_forwarded(is, &answer) {
        if answer.status() != 200 {
            return fail(format!("refused with {}", describe(&answer)));
        }
        // The request after it is one then; its answer is awaited, so that it does not come up in the next case.
        let next = matches!(is, Either(_)) && !answer.closes();
        if next && let Err(error) = client.wire.read_response_to("GET") {
            return fail(format!("the next request was not answered: {error}"));
        }
        return Ok(());
    }
    if !statuses.contains(&answer.status()) {
        return fail(format!("{} instead of {statuses:?}", describe(&answer)));
    }
    if answer.cause().is_empty() {
        return fail(format!("{} without a cause in Proxy-Status", answer.status()));
    }
    if received.iter().any(|request| request.body.is_some()) {
        return fail("refused, but the instance got it whole".to_owned());
    }
    match client.wire.read_to_end() {
        Ok(rest) if rest.is_empty() => Ok(()),
        Ok(rest) => fail(format!("more after the refusal: {:?}", String::from_utf8_lossy(&rest))),
        Err(error) if error.kind() == std::io::ErrorKind::ConnectionReset => Ok(()),
        Err(error) => fail(format!("not closed: {error}")),
    }
}

fn is_forwarded(is: Is, answer: &Response) -> bool {
    match is {
        Forwarded => true,
        Either(_) => answer.field("instance").is_some(),
        Refused(_) => false,
    }
}

fn describe(answer: &Response) -> String {
    format!("{} {:?}", answer.status(), answer.cause())
}
