//! ZDS on the wire: one protobuf message per datagram, a descriptor with an Add and with nothing else
//! (ztunnel.md §2.4, §5.1). Pure over the descriptor's type, so that any bytes can be tried.

use crate::WorkloadInfo;
use model::Str;
use prost::Message;
use proto::zds::{self, workload_request::Payload, workload_response};

/// Bytes of the largest message that is read; upstream's agent stays under 1,024.
pub const MAX_MESSAGE: usize = 16 * 1024;
/// Longest name in a message: Kubernetes allows 253.
const MAX_NAME: usize = 512;

/// What the agent asks for. `F` is a descriptor.
#[derive(Debug, PartialEq, Eq)]
pub enum Request<F> {
    /// Serve this pod.
    Add {
        /// The agent's key for it.
        uid: Str,
        /// Who it is.
        info: WorkloadInfo,
        /// Its network namespace.
        namespace: F,
    },
    /// The pod exists, but its namespace cannot be had now: do not drop it.
    Keep {
        /// The agent's key for it.
        uid: Str,
    },
    /// The pod is gone.
    Delete {
        /// The agent's key for it.
        uid: Str,
    },
    /// Every pod there is has been named.
    SnapshotSent,
}

/// Why a message is not answered with success.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum MessageError {
    /// It cannot be read; the conversation starts anew.
    #[error("{0}")]
    Unreadable(String),
    /// It must not occur: agent and proxy disagree on the protocol.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
}

/// The first message, from the proxy.
pub fn hello() -> Vec<u8> {
    zds::ZdsHello { version: zds::Version::V1 as i32 }.encode_to_vec()
}

/// The answer to every request; an empty error is success.
pub fn ack(error: &str) -> Vec<u8> {
    let ack = zds::Ack { error: error.to_owned() };
    zds::WorkloadResponse { payload: Some(workload_response::Payload::Ack(ack)) }.encode_to_vec()
}

/// Reads one datagram with the descriptors that came along.
pub fn decode<F>(bytes: &[u8], descriptors: Vec<F>) -> Result<Request<F>, MessageError> {
    let unreadable = |what: &str| MessageError::Unreadable(what.to_owned());
    if descriptors.len() > 1 {
        return Err(MessageError::Unreadable(format!("{} descriptors came with one message", descriptors.len())));
    }
    let request = zds::WorkloadRequest::decode(bytes).map_err(|error| MessageError::Unreadable(error.to_string()))?;
    let descriptor = descriptors.into_iter().next();
    match (request.payload, descriptor) {
        (Some(Payload::Add(add)), Some(namespace)) => {
            let info = add.workload_info.ok_or(MessageError::Protocol("an added workload lacks its info"))?;
            let info = WorkloadInfo {
                name: name(&info.name)?,
                namespace: name(&info.namespace)?,
                service_account: name(&info.service_account)?,
            };
            Ok(Request::Add { uid: name(&add.uid)?, info, namespace })
        }
        (Some(Payload::Add(_)), None) => Err(unreadable("a workload was added without its network namespace")),
        (_, Some(_)) => Err(unreadable("a descriptor came with a message that takes none")),
        (Some(Payload::Keep(keep)), None) => Ok(Request::Keep { uid: name(&keep.uid)? }),
        (Some(Payload::Del(delete)), None) => Ok(Request::Delete { uid: name(&delete.uid)? }),
        (Some(Payload::SnapshotSent(_)), None) => Ok(Request::SnapshotSent),
        (None, None) => Err(unreadable("the message says nothing that is known here")),
    }
}

fn name(text: &str) -> Result<Str, MessageError> {
    if text.is_empty() || text.len() > MAX_NAME {
        return Err(MessageError::Unreadable(format!("a name of {} bytes cannot be one", text.len())));
    }
    Ok(text.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rstest::rstest;

    const UID: &str = "0c1956e1-8eef-42d2-b0b7-b22fa646cc64";

    fn bytes(hex: &str) -> Vec<u8> {
        hex.as_bytes()
            .chunks(2)
            .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
            .collect()
    }

    #[test]
    fn the_recorded_conversation_is_understood() {
        let add = bytes(
            "0a3b0a2430633139356565312d386565662d343264322d623062372d62323266613634366363633412130a037a6473120473686f701a06636c69656e74",
        );
        let Ok(Request::Add { uid, info, namespace: 7 }) = decode(&add, vec![7]) else { panic!() };
        assert_eq!(&*uid, "0c195ee1-8eef-42d2-b0b7-b22fa646ccc4");
        assert_eq!((&*info.name, &*info.namespace, &*info.service_account), ("zds", "shop", "client"));
        let delete = bytes("1226122430633139356565312d386565662d343264322d623062372d623232666136343663636334");
        assert_eq!(decode::<()>(&delete, vec![]), Ok(Request::Delete { uid }));
        assert_eq!(ack(""), bytes("0a00"));
        assert_eq!(hello(), bytes("0801"));
    }

    fn request(payload: Payload) -> Vec<u8> {
        zds::WorkloadRequest { payload: Some(payload) }.encode_to_vec()
    }

    fn add(info: bool) -> Payload {
        let info = info.then(|| zds::WorkloadInfo {
            name: "pod".to_owned(),
            namespace: "ns".to_owned(),
            service_account: "sa".to_owned(),
        });
        Payload::Add(zds::AddWorkload { uid: UID.to_owned(), workload_info: info })
    }

    #[rstest]
    #[case::two_descriptors(request(add(true)), 2, false)]
    #[case::no_descriptor(request(add(true)), 0, false)]
    #[case::descriptor_with_delete(request(Payload::Del(zds::DelWorkload { uid: UID.to_owned() })), 1, false)]
    #[case::empty(vec![], 0, false)]
    #[case::empty_uid(request(Payload::Keep(zds::KeepWorkload { uid: String::new() })), 0, false)]
    #[case::no_info(request(add(false)), 1, true)]
    fn what_must_not_be(#[case] message: Vec<u8>, #[case] descriptors: usize, #[case] protocol: bool) {
        let error = decode(&message, vec![(); descriptors]).unwrap_err();
        assert_eq!(matches!(error, MessageError::Protocol(_)), protocol, "{error}");
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in proptest::collection::vec(any::<u8>(), 0..200), descriptors in 0usize..3) {
            let _ = decode(&bytes, vec![(); descriptors]);
        }
    }
}
