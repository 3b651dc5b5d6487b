//! From a question to its answer: pure, but for looking at the zone of the moment.

use std::net::IpAddr;
use std::sync::Arc;

use hickory_proto::op::{Message, MessageType, Metadata, OpCode, Query, ResponseCode};
use hickory_proto::rr::rdata::{A, AAAA, CNAME, SOA, SRV};
use hickory_proto::rr::{DNSClass, Name, RData, Record, RecordType};
use parking_lot::RwLock;

use super::zone::{Records, Zone};

/// How long answers may be kept: services change, and pods should notice.
const TTL: u32 = 5;

/// Longest chain of aliases inside the cluster.
const ALIASES: usize = 8;

/// What to do with a message.
#[derive(Debug)]
pub(super) enum Outcome {
    /// Send this back.
    Answer(Message),
    /// Ask upstream: the name is not ours.
    Forward,
    /// Say nothing: it is no question.
    Ignore,
}

/// Answers questions about the cluster.
#[derive(Debug)]
pub(super) struct Responder {
    domain: Name,
    zone: Arc<RwLock<Arc<Zone>>>,
}

impl Responder {
    pub(super) fn new(domain: &str, zone: Arc<RwLock<Arc<Zone>>>) -> Result<Self, String> {
        let domain = Name::from_ascii(format!("{}.", domain.trim_end_matches('.')).to_lowercase());
        Ok(Self { domain: domain.map_err(|error| format!("the cluster domain is no name: {error}"))?, zone })
    }

    /// Decides what a message gets. Foreign bytes: anything may be in them.
    pub(super) fn respond(&self, message: &[u8]) -> Outcome {
        let Ok(request) = Message::from_vec(message) else { return malformed(message) };
        if request.metadata.message_type != MessageType::Query {
            return Outcome::Ignore;
        }
        let [query] = request.queries.as_slice() else { return refuse(&request, ResponseCode::FormErr) };
        if request.metadata.op_code != OpCode::Query {
            return refuse(&request, ResponseCode::NotImp);
        }
        let name = query.name().to_lowercase();
        if !self.domain.zone_of(&name) || query.query_class() != DNSClass::IN {
            // A single label is what is left of a search for a short name: nobody outside knows it.
            let short = name.num_labels() == 1 && !matches!(query.query_type(), RecordType::NS | RecordType::SOA);
            return if short { refuse(&request, ResponseCode::NXDomain) } else { Outcome::Forward };
        }
        Outcome::Answer(self.answer(&request, query, &name))
    }

    fn answer(&self, request: &Message, query: &Query, name: &Name) -> Message {
        let zone = self.zone.read().clone();
        let mut answer = reply(request, ResponseCode::NoError);
        answer.metadata.authoritative = true;
        let mut name = name.clone();
        for _ in 0..ALIASES {
            // The question's own spelling goes into the answer: some resolvers compare it.
            let owner = if answer.answers.is_empty() { query.name().clone() } else { name.clone() };
            let records = if name == self.domain {
                Some(&EMPTY)
            } else {
                self.below(&name).and_then(|below| zone.lookup(&below))
            };
            let Some(records) = records else {
                if answer.answers.is_empty() {
                    answer.metadata.response_code = ResponseCode::NXDomain;
                }
                break;
            };
            let Some(alias) = &records.alias else {
                self.add(&mut answer, &zone, owner, records, query.query_type());
                break;
            };
            let Ok(target) = Name::from_ascii(format!("{alias}.")) else { break };
            answer.add_answer(Record::from_rdata(owner, TTL, RData::CNAME(CNAME(target.clone()))));
            if query.query_type() == RecordType::CNAME || !self.domain.zone_of(&target) {
                break;
            }
            name = target;
        }
        if answer.answers.is_empty() {
            answer.add_authority(self.authority());
        }
        answer
    }

    /// The name without the cluster domain.
    fn below(&self, name: &Name) -> Option<String> {
        let text = name.to_ascii();
        let domain = self.domain.to_ascii();
        text.strip_suffix(&domain)?.strip_suffix('.').map(str::to_owned)
    }

    fn add(&self, answer: &mut Message, zone: &Zone, owner: Name, records: &Records, kind: RecordType) {
        let any = kind == RecordType::ANY;
        let address = |owner: &Name, address: IpAddr| match address {
            IpAddr::V4(address) => Record::from_rdata(owner.clone(), TTL, RData::A(A(address))),
            IpAddr::V6(address) => Record::from_rdata(owner.clone(), TTL, RData::AAAA(AAAA(address))),
        };
        let mut addresses: Vec<Record> = records.addresses.iter().map(|one| address(&owner, *one)).collect();
        addresses.retain(|record| any || record.record_type() == kind);
        // Clients take the first: each should get another.
        if addresses.len() > 1 {
            let first = rand::random_range(0..addresses.len());
            addresses.rotate_left(first);
        }
        answer.add_answers(addresses);
        if kind == RecordType::SRV || any {
            for (port, target) in &records.services {
                let Ok(name) = Name::from_ascii(format!("{target}.{}", self.domain)) else { continue };
                answer.add_answer(Record::from_rdata(
                    owner.clone(),
                    TTL,
                    RData::SRV(SRV::new(0, 100, *port, name.clone())),
                ));
                let known = zone.lookup(target).map(|records| &records.addresses);
                answer.add_additionals(known.into_iter().flatten().map(|one| address(&name, *one)));
            }
        }
    }

    /// Says for how long nothing may be believed to be there.
    fn authority(&self) -> Record {
        let label = |label: &str| self.domain.prepend_label(label).unwrap_or_else(|_| self.domain.clone());
        let (server, person) = (label("ns"), label("hostmaster"));
        let data = SOA::new(server, person, 1, 7200, 1800, 86400, TTL);
        Record::from_rdata(self.domain.clone(), TTL, RData::SOA(data))
    }
}

static EMPTY: Records =
    Records { addresses: std::collections::BTreeSet::new(), services: std::collections::BTreeSet::new(), alias: None };

/// An empty answer to a request.
pub(super) fn reply(request: &Message, code: ResponseCode) -> Message {
    let mut answer = Message::response(request.metadata.id, request.metadata.op_code);
    answer.metadata = Metadata::response_from_request(&request.metadata);
    answer.metadata.recursion_available = true;
    answer.metadata.response_code = code;
    answer.add_queries(request.queries.iter().cloned());
    answer
}

fn refuse(request: &Message, code: ResponseCode) -> Outcome {
    Outcome::Answer(reply(request, code))
}

/// A message that cannot be read gets an error if its number and kind can.
fn malformed(message: &[u8]) -> Outcome {
    match message {
        [high, low, flags, ..] if message.len() >= 12 && flags & 0x80 == 0 => {
            let id = u16::from_be_bytes([*high, *low]);
            Outcome::Answer(Message::error_msg(id, OpCode::Query, ResponseCode::FormErr))
        }
        _ => Outcome::Ignore,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::dns::zone::tests::zone;

    fn responder() -> Responder {
        Responder::new("cluster.local", Arc::new(RwLock::new(Arc::new(zone())))).unwrap()
    }

    fn question(name: &str, kind: RecordType) -> Message {
        let mut message = Message::new(7, MessageType::Query, OpCode::Query);
        message.metadata.recursion_desired = true;
        message.add_query(Query::query(Name::from_ascii(name).unwrap(), kind));
        message
    }

    fn ask(name: &str, kind: RecordType) -> Message {
        match responder().respond(&question(name, kind).to_vec().unwrap()) {
            Outcome::Answer(answer) => answer,
            other => panic!("{other:?}"),
        }
    }

    fn data(answer: &Message) -> Vec<String> {
        let mut texts: Vec<_> = answer.answers.iter().map(|record| record.data.to_string()).collect();
        texts.sort();
        texts
    }

    #[rstest::rstest]
    #[case::service("web.shop.svc.cluster.local.", RecordType::A, &["10.96.0.5"])]
    #[case::any_case("WEB.Shop.svc.cluster.local.", RecordType::A, &["10.96.0.5"])]
    #[case::headless("db.shop.svc.cluster.local.", RecordType::A, &["10.244.1.2", "10.244.1.3"])]
    #[case::port("_http._tcp.web.shop.svc.cluster.local.", RecordType::SRV, &["0 100 80 web.shop.svc.cluster.local."])]
    #[case::alias("outside.shop.svc.cluster.local.", RecordType::A, &["example.com."])]
    fn answers(#[case] name: &str, #[case] kind: RecordType, #[case] expected: &[&str]) {
        let answer = ask(name, kind);
        assert_eq!(answer.metadata.response_code, ResponseCode::NoError);
        assert!(answer.metadata.authoritative && answer.metadata.recursion_desired);
        assert_eq!(data(&answer), expected);
    }

    #[rstest::rstest]
    #[case::other_type("web.shop.svc.cluster.local.", RecordType::AAAA, ResponseCode::NoError)]
    #[case::parent("shop.svc.cluster.local.", RecordType::A, ResponseCode::NoError)]
    #[case::apex("cluster.local.", RecordType::A, ResponseCode::NoError)]
    #[case::absent("none.shop.svc.cluster.local.", RecordType::A, ResponseCode::NXDomain)]
    #[case::search_suffix("example.com.svc.cluster.local.", RecordType::A, ResponseCode::NXDomain)]
    fn nothing(#[case] name: &str, #[case] kind: RecordType, #[case] code: ResponseCode) {
        let answer = ask(name, kind);
        assert_eq!(answer.metadata.response_code, code);
        assert!(answer.answers.is_empty());
        assert_eq!(answer.authorities[0].record_type(), RecordType::SOA);
    }

    #[test]
    fn targets_of_ports_come_with_their_addresses() {
        let answer = ask("_sql._tcp.db.shop.svc.cluster.local.", RecordType::SRV);
        assert_eq!((answer.answers.len(), answer.additionals.len()), (2, 2));
    }

    #[test]
    fn the_answer_spells_the_name_as_the_question_does() {
        let answer = ask("WEB.shop.svc.cluster.local.", RecordType::A);
        assert_eq!(answer.answers[0].name.to_ascii(), "WEB.shop.svc.cluster.local.");
    }

    #[test]
    fn other_names_are_asked_upstream() {
        let message = question("example.com.", RecordType::A).to_vec().unwrap();
        assert!(matches!(responder().respond(&message), Outcome::Forward));
        assert_eq!(ask("nosuch.", RecordType::A).metadata.response_code, ResponseCode::NXDomain);
    }

    #[rstest::rstest]
    #[case::nothing(&[], false)]
    #[case::short(&[0, 1, 2], false)]
    #[case::answer_with_rubbish(&[0, 7, 0x80, 0, 0, 9, 0, 0, 0, 0, 0, 0, 1], false)]
    #[case::question_with_rubbish(&[0, 7, 0, 0, 0, 9, 0, 0, 0, 0, 0, 0, 1], true)]
    fn rubbish(#[case] message: &[u8], #[case] answered: bool) {
        assert_eq!(matches!(responder().respond(message), Outcome::Answer(_)), answered);
    }
}
