//! The send queue of a TCP connection: the bytes that this process has written and the peer has not acknowledged.
//!
//! A program learns from a write only that the kernel has taken the bytes. On a slow uplink, they are still in the
//! kernel for many seconds. The kernel lists the queue of each connection in `/proc/net/tcp` (`tx_queue`, the figure of
//! `SIOCOUTQ`).

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use tokio::sync::Mutex;
use tokio::time::Instant;

const TABLES: &[&str] = &["/proc/net/tcp", "/proc/net/tcp6"];
const ESTABLISHED: &str = "01";

/// How often the tables are read at most: all requests of the process share what was read.
pub(super) const SAMPLE_INTERVAL: Duration = Duration::from_secs(1);
/// The least time between two reads, as a multiple of what a read takes. The kernel looks through the table of all its
/// connections, also those of other containers.
const LEAST_PAUSE: u32 = 100;
const LONGEST_PAUSE: Duration = Duration::from_secs(4);

/// The two ends of a TCP connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Connection {
    pub(super) local: SocketAddr,
    pub(super) remote: SocketAddr,
}

/// The send queues of all connections of this process.
#[derive(Debug)]
pub(super) struct SendQueues(Mutex<Option<Sample>>);

/// What was read last.
pub(super) static SEND_QUEUES: SendQueues = SendQueues(Mutex::const_new(None));

#[derive(Debug)]
struct Sample {
    /// From then on the tables may be read again.
    ends: Instant,
    bytes: HashMap<Connection, u32>,
}

impl SendQueues {
    /// Returns how many bytes the peer had not acknowledged when the tables were last read. `None` if the kernel does not
    /// list the connection.
    pub(super) async fn bytes(&self, connection: Connection) -> Option<u32> {
        let mut last = self.0.lock().await;
        let sample = if let Some(sample) = last.take().filter(|sample| Instant::now() < sample.ends) {
            sample
        } else {
            let started = std::time::Instant::now();
            let bytes = tokio::task::spawn_blocking(read).await.unwrap_or_default();
            let pause = (started.elapsed() * LEAST_PAUSE).clamp(SAMPLE_INTERVAL, LONGEST_PAUSE);
            Sample { ends: Instant::now() + pause, bytes }
        };
        let bytes = sample.bytes.get(&connection).copied();
        *last = Some(sample);
        bytes
    }
}

fn read() -> HashMap<Connection, u32> {
    let tables = TABLES.iter().filter_map(|path| std::fs::read_to_string(path).ok());
    tables.flat_map(|table| table.lines().filter_map(parse).collect::<Vec<_>>()).collect()
}

/// Parses a line of `/proc/net/tcp`: number, local address, remote address, state, queues, ….
fn parse(line: &str) -> Option<(Connection, u32)> {
    let mut fields = line.split_ascii_whitespace().skip(1);
    let connection = Connection { local: address(fields.next()?)?, remote: address(fields.next()?)? };
    if fields.next()? != ESTABLISHED {
        return None;
    }
    let (queued, _) = fields.next()?.split_once(':')?;
    Some((connection, u32::from_str_radix(queued, 16).ok()?))
}

/// Parses `0100007F:1F90`: each four bytes of the address are a number in the byte order of the machine.
fn address(text: &str) -> Option<SocketAddr> {
    let (address, port) = text.split_once(':')?;
    let mut bytes = Vec::with_capacity(16);
    for word in address.as_bytes().chunks(8) {
        let word = u32::from_str_radix(std::str::from_utf8(word).ok()?, 16).ok()?;
        bytes.extend(word.to_ne_bytes());
    }
    let address = match <[u8; 4]>::try_from(bytes.as_slice()) {
        Ok(address) => IpAddr::V4(Ipv4Addr::from(address)),
        Err(_) => IpAddr::V6(Ipv6Addr::from(<[u8; 16]>::try_from(bytes.as_slice()).ok()?)),
    };
    Some(SocketAddr::new(address, u16::from_str_radix(port, 16).ok()?))
}

#[cfg(test)]
mod tests {
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};

    use super::*;

    /// How many bytes are in the queue of a connection on `address` after 100 bytes that the peer acknowledged, and after
    /// as many as the kernels of both sides take.
    fn queues(address: &str) -> [Option<u32>; 2] {
        let listener = TcpListener::bind(address).unwrap();
        let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let mut server = listener.accept().unwrap().0;
        let connection = Connection { local: client.local_addr().unwrap(), remote: client.peer_addr().unwrap() };
        client.write_all(&[0; 100]).unwrap();
        server.read_exact(&mut [0; 100]).unwrap();
        let drained = read().get(&connection).copied();
        client.set_nonblocking(true).unwrap();
        while client.write(&[0; 4096]).is_ok() {}
        [drained, read().get(&connection).copied()]
    }

    #[test]
    fn the_kernel_lists_what_the_peer_has_not_acknowledged() {
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let [drained, full] = queues(address);
            assert_eq!(drained, Some(0), "{address}");
            assert!(full.is_some_and(|bytes| bytes > 0), "{address}: {full:?}");
        }
    }

    #[tokio::test]
    async fn a_connection_that_the_kernel_does_not_list_has_no_queue() {
        let address = SocketAddr::from(([192, 0, 2, 1], 1));
        assert_eq!(SEND_QUEUES.bytes(Connection { local: address, remote: address }).await, None);
    }

    #[test]
    fn other_lines_are_ignored() {
        for line in ["", "  sl  local_address rem_address   st tx_queue rx_queue", "0: 7F:1 0:1 01 zz:0", "0: 1 2 3"] {
            assert_eq!(parse(line), None, "{line}");
        }
    }
}
