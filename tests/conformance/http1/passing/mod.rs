//! What becomes of a message on its way: what the instance gets of a request, what the client gets of a response.

mod requests;
mod responses;

use What::{
    Body, Closes, Gets, GetsBody, GetsLine, GetsNo, GetsTrailers, Interims, Sees, SeesDate, SeesNo, SeesTrailers,
    Status, Stays,
};

use super::{assert_all, shown};
use crate::support::instance::{Received, Then};
use crate::support::message::{Head, Response, Trailers};
use crate::support::{Config, Instance};

/// One thing that must be true.
#[derive(Debug, Clone, Copy)]
enum What {
    /// The instance gets this request line,
    GetsLine(&'static str),
    /// these values of this field, joined as one list,
    Gets(&'static str, &'static str),
    /// no such field,
    GetsNo(&'static str),
    /// this body,
    GetsBody(&'static str),
    /// these trailers, as `name: value`, joined.
    GetsTrailers(&'static str),
    /// The client sees this status,
    Status(u16),
    /// these values of this field, joined as one list,
    Sees(&'static str, &'static str),
    /// no such field,
    SeesNo(&'static str),
    /// one date,
    SeesDate,
    /// this body,
    Body(&'static str),
    /// these trailers,
    SeesTrailers(&'static str),
    /// these interim answers before the final one;
    Interims(&'static [&'static str]),
    /// the connection ends,
    Closes,
    /// or goes on.
    Stays,
}

/// Section, name, request, response (of the instance; where empty, a 200), and what must be true.
type Case = (&'static str, &'static str, &'static str, &'static str, &'static [What]);

const GET: &str = "GET / HTTP/1.1\r\nHost: a.test\r\n\r\n";
const OLD_GET: &str = "GET / HTTP/1.0\r\n\r\n";
const OK: &str = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";

#[track_caller]
fn check(cases: &[Case]) {
    let api = Instance::named("a");
    let proxy = Config::of(&[&api]).evidence("failures", 0).retry("retries", 0).start();
    assert_all(cases.iter().map(|&(section, name, request, response, wants)| {
        let fail = |what: &What, got: String| {
            let (sent, answered) = (shown(request.as_bytes()), shown(response.as_bytes()));
            Err(format!("RFC {section}: {name}\n    sent:     {sent}\n    answered: {answered}\n    expected: {what:?}\n    got:      {got}"))
        };
        api.forget();
        let response = if response.is_empty() { OK } else { response };
        // One that has no end of its own ends with its connection.
        let then = if response.contains("ontent-Length") || response.contains("chunked") { Then::KeepAlive } else { Then::Close };
        api.serve(move |exchange| {
            exchange.read_body()?;
            exchange.write(if exchange.head.word(1) == "/next" { OK } else { response })?;
            Ok(then)
        });
        let mut client = proxy.connect();
        client.send(request);
        let method = request.split(' ').next().unwrap();
        let answer = match client.wire.read_response_to(method) {
            Ok(answer) => answer,
            Err(error) => return fail(&Status(200), format!("no response: {error}")),
        };
        let received = api.received().first().cloned();
        for what in wants {
            let got = match what {
                Closes => {
                    let rest = client.wire.read_to_end();
                    if rest.as_ref().is_ok_and(Vec::is_empty) && says_close(&answer) { None } else { Some(format!("{:?} {rest:?}", answer.head)) }
                }
                Stays => {
                    let next = client.send("GET /next HTTP/1.1\r\nHost: a\r\n\r\n").wire.read_response_to("GET");
                    if next.is_ok_and(|next| next.status() == 200) && !says_close(&answer) { None } else { Some(format!("{:?}", answer.head)) }
                }
                what => judge(what, received.as_ref(), &answer),
            };
            if let Some(got) = got {
                return fail(what, got);
            }
        }
        Ok(())
    }));
}

fn says_close(answer: &Response) -> bool {
    answer.head.all("connection").iter().flat_map(|value| value.split(',')).any(|option| option.trim() == "close")
}

/// What there is instead of what is wanted.
fn judge(what: &What, received: Option<&Received>, answer: &Response) -> Option<String> {
    let Some(got) = received else {
        return match what {
            Gets(..) | GetsLine(_) | GetsNo(_) | GetsBody(_) | GetsTrailers(_) => Some("no request".to_owned()),
            _ => judge(
                what,
                Some(&Received { head: Head::default(), body: None, trailers: Vec::new(), connection: 0 }),
                answer,
            ),
        };
    };
    let joined = |values: Vec<&str>| values.join(", ");
    let lines = |trailers: &Trailers| trailers.iter().map(|(n, v)| format!("{n}: {v}")).collect::<Vec<_>>().join(", ");
    let (wanted, found) = match *what {
        GetsLine(line) => (line.to_owned(), got.head.start.clone()),
        Gets(name, value) => (value.to_owned(), joined(got.head.all(name))),
        GetsNo(name) => (String::new(), unwanted(&got.head, name)),
        GetsBody(body) => {
            (body.to_owned(), String::from_utf8_lossy(got.body.as_deref().unwrap_or(b"none")).into_owned())
        }
        GetsTrailers(trailers) => (trailers.to_owned(), lines(&got.trailers)),
        Status(status) => (status.to_string(), answer.status().to_string()),
        Sees(name, value) => (value.to_owned(), joined(answer.head.all(name))),
        SeesNo(name) => (String::new(), unwanted(&answer.head, name)),
        SeesDate => {
            let dates = answer.head.all("date");
            let sound = dates.len() == 1 && httpdate::parse_http_date(dates[0]).is_ok();
            (String::new(), if sound { String::new() } else { joined(dates) + " (dates)" })
        }
        Body(body) => (body.to_owned(), answer.text()),
        SeesTrailers(trailers) => (trailers.to_owned(), lines(&answer.trailers)),
        Interims(statuses) => {
            (statuses.join(", "), answer.interim.iter().map(|head| head.word(1)).collect::<Vec<_>>().join(", "))
        }
        Closes | Stays => return None,
    };
    (wanted != found).then_some(found)
}

/// The fields of that name, which should not be there.
fn unwanted(head: &Head, name: &str) -> String {
    let values = head.all(name);
    if values.is_empty() { String::new() } else { format!("{name}: {}", values.join(", ")) }
}
