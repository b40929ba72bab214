//! Sends ICMP echo requests (RFC 792) from inside a network namespace, like `ping`.
//!
//! The socket is opened inside the namespace and then used from outside.

use std::{
    io::{self, ErrorKind},
    net::Ipv4Addr,
    os::fd::{AsRawFd, OwnedFd},
    path::Path,
    sync::Arc,
    time::{Duration, Instant},
};

use nix::sys::{
    socket::{
        AddressFamily, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrIn, connect, recv, send, setsockopt, socket,
        sockopt::ReceiveTimeout,
    },
    time::TimeVal,
};

use crate::{entrance::Entrance, namespace};

const ECHO_REPLY: u8 = 0;
const ECHO_REQUEST: u8 = 8;
/// Size of the ICMP header in bytes: type, code, checksum, identifier and sequence number.
const HEADER_BYTES: usize = 8;
/// Payload of the requests, easy to recognise in a packet capture.
const PAYLOAD: &[u8] = b"netns-agent echo";

/// Sends ICMP echo requests to one address from inside one namespace.
pub struct Echo {
    socket: OwnedFd,
    identifier: u16,
    sequence: u16,
}

impl Echo {
    /// Opens a socket in the namespace of a namespace file, such as `/run/netns/NAME` or `/proc/PID/ns/net`.
    ///
    /// # Errors
    /// Fails if the namespace does not exist, or if the caller lacks CAP_NET_RAW in it.
    pub fn open(namespace: &Path, target: Ipv4Addr) -> io::Result<Self> {
        let home = Arc::new(OwnedFd::from(namespace::current()?));
        let inside: Arc<OwnedFd> = Arc::new(OwnedFd::from(namespace::open_file(namespace).map_err(io::Error::other)?));
        let socket = Entrance::start(home)?.visit(&inside, || {
            Ok(socket(
                AddressFamily::Inet,
                SockType::Raw,
                SockFlag::SOCK_CLOEXEC,
                SockProtocol::Icmp,
            )?)
        })?;
        let [a, b, c, d] = target.octets();
        // A connected socket receives only packets from its target.
        connect(socket.as_raw_fd(), &SockaddrIn::new(a, b, c, d, 0))?;
        let identifier = u16::try_from(std::process::id() & 0xffff).unwrap_or_default();
        Ok(Echo {
            socket,
            identifier,
            sequence: 0,
        })
    }

    /// Sends one request and waits for its reply. Returns the round-trip time.
    ///
    /// # Errors
    /// Returns [`ErrorKind::TimedOut`] if no reply arrives in time, or the kernel's error, for example if the network is
    /// unreachable.
    pub fn ask(&mut self, time_limit: Duration) -> io::Result<Duration> {
        self.sequence = self.sequence.wrapping_add(1);
        let began = Instant::now();
        send(self.socket.as_raw_fd(), &request(self.identifier, self.sequence), MsgFlags::empty())?;
        let mut packet = [0; 1500];
        loop {
            let left = time_limit.saturating_sub(began.elapsed());
            if left.is_zero() {
                return Err(ErrorKind::TimedOut.into());
            }
            // The timeout is at least 1 µs, because zero would mean no timeout.
            let left = TimeVal::new(
                left.as_secs().try_into().unwrap_or(i64::MAX),
                i64::from(left.subsec_micros()).max(1),
            );
            setsockopt(&self.socket, ReceiveTimeout, &left)?;
            let length = match recv(self.socket.as_raw_fd(), &mut packet, MsgFlags::empty()) {
                Ok(length) => length,
                Err(nix::errno::Errno::EAGAIN | nix::errno::Errno::EINTR) => continue,
                Err(errno) => return Err(errno.into()),
            };
            if is_reply(&packet[..length], self.identifier, self.sequence) {
                return Ok(began.elapsed());
            }
        }
    }
}

fn request(identifier: u16, sequence: u16) -> Vec<u8> {
    let mut packet = vec![ECHO_REQUEST, 0, 0, 0];
    packet.extend(identifier.to_be_bytes());
    packet.extend(sequence.to_be_bytes());
    packet.extend(PAYLOAD);
    let sum = checksum(&packet);
    packet[2..4].copy_from_slice(&sum.to_be_bytes());
    packet
}

/// Returns whether a packet is the reply to the request with this identifier and sequence number.
///
/// A raw socket also returns the IPv4 header. The low four bits of the first byte are the length of that header, in units of four
/// bytes.
fn is_reply(packet: &[u8], identifier: u16, sequence: u16) -> bool {
    let header = packet.first().map_or(0, |first| usize::from(first & 0x0f) * 4);
    match packet.get(header..header + HEADER_BYTES) {
        Some(&[ECHO_REPLY, 0, _, _, id_high, id_low, sequence_high, sequence_low]) => {
            [id_high, id_low] == identifier.to_be_bytes() && [sequence_high, sequence_low] == sequence.to_be_bytes()
        }
        _ => false,
    }
}

/// Returns the internet checksum (RFC 1071).
fn checksum(bytes: &[u8]) -> u16 {
    let words = bytes
        .chunks(2)
        .map(|pair| u32::from(pair[0]) << 8 | u32::from(pair.get(1).copied().unwrap_or_default()));
    let mut sum: u32 = words.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !u16::try_from(sum).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packet_with_checksum_sums_to_zero() {
        assert_eq!(checksum(&request(1, 2)), 0);
        assert_eq!(checksum(&[0xff]), 0x00ff);
    }

    #[test]
    fn accepts_only_the_reply_to_the_request() {
        let mut packet = vec![0x45; 20];
        packet.extend(request(7, 9));
        assert!(!is_reply(&packet, 7, 9), "the request itself");
        packet[20] = ECHO_REPLY;
        assert!(is_reply(&packet, 7, 9));
        assert!(!is_reply(&packet, 7, 8) && !is_reply(&packet, 6, 9));
        assert!(!is_reply(&packet[..24], 7, 9) && !is_reply(&[], 7, 9));
    }
}
