//! What instances may answer: what is ambiguous becomes 502 or an aborted body, never a clean-looking response.

mod bodies;
mod framing;
mod heads;

use std::io;

use super::shown;
use crate::support::instance::Then;
use crate::support::message::Response;
use crate::support::wait::{eventually, millis, pause};
use crate::support::{Config, Instance, Proxy};

/// What the client sees.
#[derive(Debug, Clone, Copy)]
enum Sees {
    /// A 502 of Plimsoll's own.
    BadGateway,
    /// A response that visibly ends too early; or a 502, when that was seen in time.
    Abort,
    /// This status and body, and the next request gets its own answer.
    Clean(u16, &'static str),
    /// A clean one with this body or a 502.
    CleanOr502(&'static str),
}

use Sees::{Abort, BadGateway, Clean, CleanOr502};

/// Section, name, the request's method, the bytes that the instance sends, what it does then, and what the client sees.
type Case = (&'static str, &'static str, &'static str, &'static [u8], Then, Sees);

#[track_caller]
fn check(cases: &[Case]) {
    let api = Instance::named("a");
    // Bad answers are failures in traffic; they must not eject the only instance.
    let proxy = Config::of(&[&api]).evidence("failures", 0).retry("retries", 0).start();
    super::assert_all(cases.iter().map(|case| judge(&proxy, &api, case)));
}

/// As [`check`], for the answer to a GET on a connection that goes on, with what stands around the bytes of each case.
#[track_caller]
fn check_within(before: &[u8], after: &[u8], cases: &[(&'static str, &'static str, &[u8], Sees)]) {
    let whole = |bytes: &[u8]| -> &'static [u8] { [before, bytes, after].concat().leak() };
    let cases =
        cases.iter().map(|(section, name, bytes, sees)| (*section, *name, "GET", whole(bytes), Then::KeepAlive, *sees));
    check(&cases.collect::<Vec<_>>());
}

fn judge(proxy: &Proxy, api: &Instance, &(section, name, method, bytes, then, sees): &Case) -> Result<(), String> {
    let fail = |got: String| {
        Err(format!(
            "RFC {section}: {name}\n    sent:     {} {then:?}\n    expected: {sees:?} for {method}\n    got:      {got}",
            shown(bytes)
        ))
    };
    api.serve(move |exchange| {
        exchange.read_body()?;
        if exchange.head.word(1) == "/next" {
            return exchange.respond(200, "", b"next");
        }
        exchange.write(bytes)?;
        Ok(then)
    });
    let mut client = proxy.connect();
    client.send(format!("{method} /case HTTP/1.1\r\nHost: a\r\n\r\n"));
    let answer = client.wire.read_response_to(method);
    let judged = match (sees, &answer) {
        (BadGateway | CleanOr502(_), Ok(answer)) if is_502(answer) => Ok(()),
        (Abort, Ok(answer)) if is_502(answer) => Ok(()),
        (Abort, Err(error)) if is_cut(error) => return Ok(()),
        (Clean(status, body), Ok(answer)) if answer.status() == status && answer.text() == body => Ok(()),
        (CleanOr502(body), Ok(answer)) if answer.status() == 200 && answer.text() == body => Ok(()),
        (_, Ok(answer)) => fail(format!("{} {:?}", answer.head.start, answer.text())),
        (_, Err(error)) => fail(format!("no response: {error}")),
    };
    judged?;
    let next = if answer.is_ok_and(|answer| answer.closes()) { proxy.get("/next") } else { client.get("/next") };
    if next.text() != "next" {
        return fail(format!("the next request's answer is {} {:?}", next.status(), next.text()));
    }
    Ok(())
}

fn is_502(answer: &Response) -> bool {
    answer.status() == 502 && !answer.cause().is_empty()
}

fn is_cut(error: &io::Error) -> bool {
    matches!(error.kind(), io::ErrorKind::UnexpectedEof | io::ErrorKind::ConnectionReset)
}
