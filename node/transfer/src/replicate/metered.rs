//! Whether this machine's line costs by the byte, as far as the system tells.
//!
//! NetworkManager knows: a person marked a connection as metered, or it looks like a phone's. It is
//! asked on the system bus. Where there is no such bus, or nobody answers there, nothing is known, and
//! the line counts as free: `limits.monthly` bounds it then.

use std::time::Duration;

use zbus::{Connection, Message, Variant, connection::Builder};

/// A call that is not answered by then counts as one that nobody answers.
const PATIENCE: Duration = Duration::from_secs(2);

const MANAGER: &str = "org.freedesktop.NetworkManager";
const MANAGER_PATH: &str = "/org/freedesktop/NetworkManager";
const PROPERTIES: &str = "org.freedesktop.DBus.Properties";

/// `NMMetered`: it is, or NetworkManager guesses so. The others are 0 for unknown, 2 for no and 4 for a
/// guess that it is not.
const METERED: [u32; 2] = [1, 3];

/// Asks whether the line is metered, by a connection that it keeps.
#[derive(Default)]
pub(super) struct Meter {
    bus: Option<Connection>,
}

impl Meter {
    /// Whether the line is metered now; `false` where nobody tells. Takes [`PATIENCE`] twice at the
    /// most. Cancel-safe.
    pub(super) async fn is_metered(&mut self) -> bool {
        if self.bus.is_none() {
            let connecting = Builder::system().method_timeout(PATIENCE).build();
            let connected = tokio::time::timeout(PATIENCE, connecting).await;
            self.bus = connected.ok().and_then(Result::ok);
        }
        let Some(bus) = &self.bus else { return false };
        match asked(bus).await {
            Ok(told) => METERED.contains(&told),
            Err(error) => {
                // The bus may be another one after a restart of it.
                let is_answer = matches!(error, zbus::Error::MethodError(..) | zbus::Error::FDO(_));
                if !is_answer {
                    self.bus = None;
                }
                false
            }
        }
    }
}

async fn asked(bus: &Connection) -> zbus::Result<u32> {
    let what = (MANAGER, "Metered");
    let reply: Message = bus
        .call_method(Some(MANAGER), MANAGER_PATH, Some(PROPERTIES), "Get", &what)
        .await?;
    let body = reply.body();
    let told: Variant<'_> = body.deserialize()?;
    u32::try_from(told)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use futures::StreamExt;
    use std::os::unix::net::UnixStream;
    use zbus::{Guid, MessageStream};

    use super::*;

    /// A bus on which somebody answers for NetworkManager, call by call.
    async fn bus(answers: Vec<Option<Variant<'static>>>) -> (Meter, tokio::task::JoinHandle<()>) {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let serving = tokio::spawn(async move {
            let guid = Guid::generate();
            let server = Builder::unix_stream(theirs).server(guid).p2p();
            let server = server.build().await.unwrap();
            let mut calls = MessageStream::from(&server);
            for answer in answers {
                let call = calls.next().await.unwrap().unwrap();
                let header = call.header();
                assert_eq!(header.destination().unwrap().as_str(), MANAGER);
                assert_eq!(header.path().unwrap().as_str(), MANAGER_PATH);
                assert_eq!(header.member().unwrap().as_str(), "Get");
                match answer {
                    Some(value) => server.reply(&header, &value).await.unwrap(),
                    None => server
                        .reply_error(&header, "org.freedesktop.DBus.Error.ServiceUnknown", &"no")
                        .await
                        .unwrap(),
                }
            }
        });
        let client = Builder::unix_stream(ours).p2p().method_timeout(PATIENCE);
        let meter = Meter {
            bus: Some(client.build().await.unwrap()),
        };
        (meter, serving)
    }

    #[tokio::test]
    async fn what_is_metered_or_looks_like_it_counts_and_nothing_else() {
        let answers = [
            (Some(Variant::U32(0)), false),
            (Some(Variant::U32(1)), true),
            (Some(Variant::U32(2)), false),
            (Some(Variant::U32(3)), true),
            (Some(Variant::U32(4)), false),
            (Some(Variant::U32(u32::MAX)), false),
            (None, false),
            (Some(Variant::Str("1".into())), false),
        ];
        for (answer, expected) in answers {
            let said = format!("{answer:?}");
            let (mut meter, serving) = bus(vec![answer]).await;
            assert_eq!(meter.is_metered().await, expected, "{said}");
            serving.await.unwrap();
        }
    }

    #[tokio::test]
    async fn a_service_that_is_not_there_is_asked_again_and_a_bus_that_ended_is_left() {
        let (mut meter, serving) = bus(vec![None, Some(Variant::U32(1))]).await;
        assert!(!meter.is_metered().await);
        assert!(meter.is_metered().await, "it has come up since");
        serving.await.unwrap();
        assert!(!meter.is_metered().await);
        assert!(meter.bus.is_none());
    }
}
