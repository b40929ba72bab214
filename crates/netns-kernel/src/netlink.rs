//! A blocking rtnetlink socket: sends requests, and receives acknowledgements and dumps.
//!
//! Implements the framing of netlink(7) (packed requests, sequence numbers, extended acknowledgements), and handles lost or
//! interrupted replies. A socket belongs to the namespace in which it was opened.
//!
//! The kernel processes rtnetlink requests within send(2), so every acknowledgement is already queued when the call returns. A
//! receive has to wait only if a reply was lost. The socket timeout limits this wait.
//!
//! The rtnetlink crate supplies the message types and the socket. Its connection task is not used, for two reasons. First, a
//! connection task that ends reports its queued requests as successful, although the kernel has not applied them. Second, the
//! agent must match each outcome to its request within a packed batch.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd},
};

use nix::{
    errno::Errno,
    libc,
    sys::{
        socket::{setsockopt, sockopt},
        time::{TimeVal, TimeValLike},
    },
};
use rtnetlink::packet_core::{NLM_F_ACK, NLM_F_DUMP, NLM_F_REQUEST, NetlinkMessage, NetlinkPayload};
use rtnetlink::packet_route::RouteNetlinkMessage;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

use super::write_count;

/// Maximum number of requests in one send.
///
/// The default receive buffer has room for 256 acknowledgements, and the kernel can refuse to enlarge the buffer.
const MESSAGES_MAX: usize = 200;
/// Maximum number of objects requested in one send. Each reply takes up to 4 KiB of the receive buffer.
const GETS_MAX: usize = 32;
/// Maximum number of bytes in one send. The kernel refuses more than about 212,960 bytes with EMSGSIZE.
const SEND_BYTES_MAX: usize = 128 * 1024;
/// Requested maximum size of each socket buffer, in bytes. The kernel allocates memory only as needed.
const SOCKET_BUFFER_BYTES: usize = 1 << 20;
/// Receive buffer size, in bytes. The kernel puts at most 32 KiB of a dump into one datagram (`netlink_recvmsg` in
/// net/netlink/af_netlink.c).
const RECEIVE_BYTES: usize = 32 * 1024;
/// Timeout, in seconds, for a reply that the kernel should already have queued.
const ANSWER_SECONDS_MAX: i64 = 10;
/// Maximum number of attempts at a dump. A dump is repeated if the objects change while they are read (NLM_F_DUMP_INTR).
const DUMP_TRIES_MAX: usize = 16;

/// Size of a `struct nlmsghdr` in bytes.
const HEADER_BYTES: usize = 16;
/// NLMSGERR_ATTR_MSG in linux/netlink.h: the text of an extended acknowledgement.
const EXT_ACK_TEXT: u16 = 1;

/// A refusal by the kernel: the error number and, if the kernel sent one, a text.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Refusal {
    /// Error number (errno(3)), positive.
    pub errno: i32,
    /// Text of the extended acknowledgement; `None` if the kernel sent none.
    pub text: Option<String>,
}

impl Refusal {
    /// Returns whether the error number is `errno`.
    pub fn is(&self, errno: Errno) -> bool {
        self.errno == errno as i32
    }
}

impl From<&io::Error> for Refusal {
    fn from(error: &io::Error) -> Self {
        match error.raw_os_error() {
            Some(errno) => Self { errno, text: None },
            None => Self {
                errno: libc::EIO,
                text: Some(error.to_string()),
            },
        }
    }
}

impl From<io::Error> for Refusal {
    fn from(error: io::Error) -> Self {
        Self::from(&error)
    }
}

impl From<Errno> for Refusal {
    fn from(errno: Errno) -> Self {
        Self {
            errno: errno as i32,
            text: None,
        }
    }
}

/// A request for a change, and its flags other than NLM_F_REQUEST and NLM_F_ACK.
pub(super) type Change = (RouteNetlinkMessage, u16);

/// A received netlink message: the relevant header fields and the payload.
#[derive(Clone, Copy)]
pub(super) struct Received<'a> {
    /// Message type (`nlmsg_type`).
    pub kind: u16,
    /// Message flags (`nlmsg_flags`).
    pub flags: u16,
    /// Sequence number (`nlmsg_seq`); 0 in notifications.
    pub sequence: u32,
    /// Bytes after the message header.
    pub payload: &'a [u8],
}

/// Iterates over the messages in a datagram.
///
/// Stops at the first malformed message, which the kernel never sends.
pub(super) fn messages(mut bytes: &[u8]) -> impl Iterator<Item = Received<'_>> {
    std::iter::from_fn(move || {
        let length = read_u32(bytes, 0)? as usize;
        let payload = bytes.get(HEADER_BYTES..length)?;
        let message = Received {
            kind: read_u16(bytes, 4)?,
            flags: read_u16(bytes, 6)?,
            sequence: read_u32(bytes, 8)?,
            payload,
        };
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some(message)
    })
}

/// Iterates over attributes, and returns the type (without flag bits) and the value of each. `bytes` is the end of a message, or
/// the contents of a nested attribute.
///
/// Replies are parsed with this function instead of the typed messages of the rtnetlink crate. An unknown attribute therefore
/// cannot make a whole namespace unreadable, and only the required attributes are decoded.
pub(super) fn attributes(mut bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    std::iter::from_fn(move || {
        let length = usize::from(read_u16(bytes, 0)?);
        let kind = read_u16(bytes, 2)? & libc::NLA_TYPE_MASK as u16;
        let value = bytes.get(4..length)?;
        bytes = bytes.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((kind, value))
    })
}

/// Reads a 32-bit number in host byte order at a byte offset; `None` if there are not enough bytes.
pub(super) fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_ne_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

/// Reads a 16-bit number in host byte order at a byte offset; `None` if there are not enough bytes.
pub(super) fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_ne_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

/// Reads NUL-terminated text. Replaces bytes that are not valid UTF-8.
pub(super) fn read_text(value: &[u8]) -> String {
    String::from_utf8_lossy(value.split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
}

/// A NETLINK_ROUTE socket with strict checking and extended acknowledgements.
pub(super) struct RouteSocket {
    socket: Socket,
    sequence: u32,
    /// True if an earlier exchange was abandoned, so that its replies may still be queued.
    unclean: bool,
}

impl RouteSocket {
    /// Opens a socket in the namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        let socket = Socket::new(NETLINK_ROUTE)?;
        socket.connect(&SocketAddr::new(0, 0))?;
        socket.set_netlink_get_strict_chk(true)?;
        socket.set_ext_ack(true)?;
        socket.set_cap_ack(true)?;
        enlarge_buffers(&socket);
        setsockopt(&socket, sockopt::ReceiveTimeout, &TimeVal::seconds(ANSWER_SECONDS_MAX))?;
        Ok(Self {
            socket,
            sequence: 0,
            unclean: false,
        })
    }

    /// Performs one change and waits for its acknowledgement.
    pub fn change(&mut self, message: RouteNetlinkMessage, flags: u16) -> Result<(), Refusal> {
        self.exchange(vec![(message, flags)]).pop().unwrap_or(Ok(()))
    }

    /// Performs changes in order, packed into as few sends as possible.
    ///
    /// If one change is refused, the following changes are still performed. The results are in the order of the changes.
    ///
    /// Only the last change in each send requests an acknowledgement. The kernel processes requests in order and always reports
    /// refusals, so this acknowledgement covers all changes in the send.
    pub fn exchange(&mut self, changes: Vec<Change>) -> Vec<Result<(), Refusal>> {
        write_count::add(changes.len());
        let mut answers = Vec::with_capacity(changes.len());
        let mut packed = Vec::new();
        let (mut count, mut last) = (0, 0);
        let mut first = self.sequence.wrapping_add(1);
        for (message, flags) in changes {
            let message = self.frame(message, flags);
            if count == MESSAGES_MAX || packed.len() + message.len() > SEND_BYTES_MAX && count > 0 {
                self.send_and_collect(&mut packed, last, first, count, &mut answers);
                packed.clear();
                first = self.sequence;
                count = 0;
            }
            last = packed.len();
            packed.extend_from_slice(&message);
            count += 1;
        }
        if count > 0 {
            self.send_and_collect(&mut packed, last, first, count, &mut answers);
        }
        answers
    }

    /// Requests objects with as few sends as possible. Omits objects that the kernel does not return, regardless of the reason.
    pub fn get_all(&mut self, messages: impl Iterator<Item = RouteNetlinkMessage>) -> Vec<Vec<u8>> {
        let mut found = Vec::new();
        let requests: Vec<Vec<u8>> = messages.map(|message| self.frame(message, 0)).collect();
        let mut first = self.sequence.wrapping_sub(requests.len() as u32).wrapping_add(1);
        for part in requests.chunks(GETS_MAX) {
            self.settle();
            let result = self.socket.send(&part.concat(), 0).map_err(Refusal::from);
            let result = result.and_then(|_| self.collect_objects(first, part.len(), &mut found));
            self.unclean |= result.is_err();
            first = first.wrapping_add(part.len() as u32);
        }
        found
    }

    /// Receives one reply to each of `count` requests. The first request has the sequence number `first`.
    fn collect_objects(&self, first: u32, count: usize, found: &mut Vec<Vec<u8>>) -> Result<(), Refusal> {
        let mut missing = count;
        while missing > 0 {
            let datagram = self.receive()?;
            for message in messages(&datagram).filter(|message| (message.sequence.wrapping_sub(first) as usize) < count) {
                missing -= 1;
                if i32::from(message.kind) != libc::NLMSG_ERROR {
                    found.push(message.payload.to_vec());
                }
            }
        }
        Ok(())
    }

    /// Requests one object. A missing object is an error (ENODEV, ENOENT, …).
    pub fn get(&mut self, message: RouteNetlinkMessage) -> Result<Vec<u8>, Refusal> {
        self.settle();
        let bytes = self.frame(message, 0);
        self.socket.send(&bytes, 0)?;
        let expected = self.sequence;
        loop {
            let datagram = self.receive()?;
            let answer = messages(&datagram).find(|message| message.sequence == expected);
            match answer {
                Some(message) if i32::from(message.kind) == libc::NLMSG_ERROR => {
                    return Err(acknowledgement(&message).err().unwrap_or(Refusal::from(Errno::ENODATA)));
                }
                Some(message) => return Ok(message.payload.to_vec()),
                // This message is a late reply from an abandoned exchange.
                None => {}
            }
        }
    }

    /// Reads all objects that a request selects. `parse` adds the objects in one message payload to the result.
    pub fn dump<T: Default>(&mut self, message: &RouteNetlinkMessage, parse: impl Fn(&[u8], &mut T)) -> Result<T, Refusal> {
        for _ in 0..DUMP_TRIES_MAX {
            self.settle();
            let mut found = T::default();
            let result = self.dump_once(message.clone(), &parse, &mut found);
            self.unclean |= result.is_err();
            if !result? {
                return Ok(found);
            }
        }
        Err(Refusal {
            errno: libc::EAGAIN,
            text: Some(format!("the namespace changed during each of {DUMP_TRIES_MAX} attempts to read it")),
        })
    }

    /// Performs one dump. Returns true if the dump was interrupted because the objects changed.
    fn dump_once<T>(&mut self, message: RouteNetlinkMessage, parse: &impl Fn(&[u8], &mut T), found: &mut T) -> Result<bool, Refusal> {
        let bytes = self.frame(message, NLM_F_DUMP);
        self.socket.send(&bytes, 0)?;
        let expected = self.sequence;
        let mut interrupted = false;
        loop {
            let datagram = self.receive()?;
            for message in messages(&datagram).filter(|message| message.sequence == expected) {
                interrupted |= i32::from(message.flags) & libc::NLM_F_DUMP_INTR != 0;
                match i32::from(message.kind) {
                    libc::NLMSG_ERROR | libc::NLMSG_DONE => return acknowledgement(&message).map(|()| interrupted),
                    _ => parse(message.payload, found),
                }
            }
        }
    }

    /// Encodes a request with the next sequence number.
    fn frame(&mut self, message: RouteNetlinkMessage, flags: u16) -> Vec<u8> {
        self.sequence = self.sequence.wrapping_add(1);
        let mut message = NetlinkMessage::from(message);
        message.header.flags = NLM_F_REQUEST | flags;
        message.header.sequence_number = self.sequence;
        message.finalize();
        debug_assert!(
            matches!(message.payload, NetlinkPayload::InnerMessage(_)),
            "the payload must be an rtnetlink message"
        );
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        bytes
    }

    /// Sends `count` packed requests and appends their results to `answers`.
    ///
    /// The first request has the sequence number `first`. The last request starts at byte `last`.
    fn send_and_collect(&mut self, packed: &mut [u8], last: usize, first: u32, count: usize, answers: &mut Vec<Result<(), Refusal>>) {
        self.settle();
        ask_for_acknowledgement(&mut packed[last..]);
        let mut collected: Vec<Option<Result<(), Refusal>>> = vec![None; count];
        let outcome = self
            .socket
            .send(packed, 0)
            .map_err(Refusal::from)
            .and_then(|_| self.collect(first, &mut collected));
        let lost = outcome.err();
        self.unclean |= lost.is_some();
        answers.extend(
            collected
                .into_iter()
                .map(|answer| answer.unwrap_or_else(|| lost.clone().map_or(Ok(()), Err))),
        );
    }

    /// Receives replies until the last request is acknowledged, and records which requests the kernel refused.
    fn collect(&mut self, first: u32, collected: &mut [Option<Result<(), Refusal>>]) -> Result<(), Refusal> {
        while collected.last().is_some_and(Option::is_none) {
            let datagram = self.receive()?;
            for message in messages(&datagram).filter(|message| i32::from(message.kind) == libc::NLMSG_ERROR) {
                if let Some(slot) = collected.get_mut(message.sequence.wrapping_sub(first) as usize) {
                    slot.get_or_insert_with(|| acknowledgement(&message));
                }
            }
        }
        Ok(())
    }

    fn receive(&self) -> Result<Vec<u8>, Refusal> {
        let mut datagram = Vec::with_capacity(RECEIVE_BYTES);
        loop {
            let room = datagram.capacity();
            match self.socket.recv(&mut datagram, libc::MSG_TRUNC) {
                Ok(length) if length > room => {
                    return Err(Refusal {
                        errno: libc::EMSGSIZE,
                        text: Some(format!("a reply of {length} bytes was truncated to {room} bytes")),
                    });
                }
                Ok(_) => return Ok(datagram),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Err(Refusal {
                        errno: libc::ETIMEDOUT,
                        text: Some("the reply was lost".to_owned()),
                    });
                }
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Discards the remaining replies of an abandoned exchange, so that the kernel does not refuse the next dump with EBUSY.
    fn settle(&mut self) {
        if !self.unclean {
            return;
        }
        self.unclean = false;
        let mut datagram = Vec::with_capacity(RECEIVE_BYTES);
        loop {
            datagram.clear();
            match self.socket.recv(&mut datagram, libc::MSG_DONTWAIT) {
                Ok(_) => {}
                // The kernel reports ENOBUFS once, and reading can continue.
                Err(error) if error.raw_os_error() == Some(libc::ENOBUFS) => {}
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return,
            }
        }
    }
}

impl AsFd for RouteSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Sets NLM_F_ACK in a framed request.
fn ask_for_acknowledgement(request: &mut [u8]) {
    if let Some(flags) = request.get_mut(6..8) {
        let [low, high] = NLM_F_ACK.to_ne_bytes();
        flags[0] |= low;
        flags[1] |= high;
    }
}

/// Enlarges the socket buffers to absorb bursts.
///
/// Without CAP_NET_ADMIN in the initial user namespace, the system-wide limit applies.
pub(super) fn enlarge_buffers(socket: &Socket) {
    if setsockopt(socket, sockopt::RcvBufForce, &SOCKET_BUFFER_BYTES).is_err() {
        let _ = setsockopt(socket, sockopt::RcvBuf, &SOCKET_BUFFER_BYTES);
    }
    if setsockopt(socket, sockopt::SndBufForce, &SOCKET_BUFFER_BYTES).is_err() {
        let _ = setsockopt(socket, sockopt::SndBuf, &SOCKET_BUFFER_BYTES);
    }
}

/// Parses NLMSG_ERROR and NLMSG_DONE. Both messages contain an error number (0 means success) and an optional extended
/// acknowledgement. NLMSG_ERROR also contains the request, or only its header if the message is capped.
fn acknowledgement(message: &Received<'_>) -> Result<(), Refusal> {
    let error = read_u32(message.payload, 0).unwrap_or(0) as i32;
    if error == 0 || i32::from(message.kind) == libc::NLMSG_DONE && error > 0 {
        return Ok(());
    }
    let flags = i32::from(message.flags);
    let skipped = match i32::from(message.kind) {
        libc::NLMSG_DONE => 4,
        _ if flags & libc::NLM_F_CAPPED != 0 => 4 + HEADER_BYTES,
        _ => 4 + read_u32(message.payload, 4).unwrap_or(0).next_multiple_of(4) as usize,
    };
    let text = (flags & libc::NLM_F_ACK_TLVS != 0)
        .then(|| attributes(message.payload.get(skipped..).unwrap_or_default()).find(|(kind, _)| *kind == EXT_ACK_TEXT))
        .flatten()
        .map(|(_, value)| read_text(value));
    Err(Refusal {
        errno: error.wrapping_neg(),
        text,
    })
}
