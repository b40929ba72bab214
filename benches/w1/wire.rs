//! Raw rtnetlink messages, for the raw baseline and for counting objects.
//!
//! The message builder and the socket are minimal and use none of the agent's code, so that the baseline does not change with the
//! agent. See [`Batch`].

use std::io;

use nix::libc;
use rtnetlink::sys::{Socket, SocketAddr, protocols::NETLINK_ROUTE};

/// Maximum number of messages per send. The socket's receive buffer has room for replies to all of them.
const MESSAGES_MAX: usize = 200;
/// Size in bytes of the receive buffer and of the send buffer.
const BUFFER_BYTES: usize = 1 << 20;

/// Netlink requests packed into one buffer.
#[derive(Default)]
pub struct Batch {
    bytes: Vec<u8>,
    /// Offset of each request in the buffer.
    starts: Vec<usize>,
}

impl Batch {
    /// Begins a request, which consists of a netlink header and the fixed header `fixed` (for example, a `struct ifinfomsg`).
    pub fn request(&mut self, kind: u16, flags: i32, fixed: &[u8]) -> &mut Self {
        self.starts.push(self.bytes.len());
        let flags = u16::try_from(libc::NLM_F_REQUEST | flags).expect("flags have 16 bits");
        self.bytes.extend([0; 4]);
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(flags.to_ne_bytes());
        self.bytes.extend([0; 8]);
        self.bytes.extend(fixed);
        self.finish()
    }

    /// Appends an attribute to the latest request.
    pub fn attribute(&mut self, kind: u16, value: &[u8]) -> &mut Self {
        let length = u16::try_from(4 + value.len()).expect("an attribute has less than 64 KiB");
        self.bytes.extend(length.to_ne_bytes());
        self.bytes.extend(kind.to_ne_bytes());
        self.bytes.extend(value);
        self.bytes.resize(self.bytes.len().next_multiple_of(4), 0);
        self.finish()
    }

    /// Encodes an attribute that will be nested in another attribute.
    pub fn nested(kind: u16, value: &[u8]) -> Vec<u8> {
        let mut nest = Self::default();
        nest.starts.push(0);
        nest.bytes.extend([0; 4]);
        nest.attribute(kind, value);
        nest.bytes.split_off(4)
    }

    fn finish(&mut self) -> &mut Self {
        let start = *self.starts.last().expect("a request was begun");
        let length = u32::try_from(self.bytes.len() - start).expect("a request is short");
        self.bytes[start..start + 4].copy_from_slice(&length.to_ne_bytes());
        self
    }

    /// Sends all requests, and panics at the first error.
    ///
    /// Only the last request of each send has the flag `NLM_F_ACK`. One acknowledgement is enough, because the kernel handles requests in order and
    /// always reports errors.
    pub fn send(&mut self, socket: &WireSocket) {
        for starts in self.starts.chunks(MESSAGES_MAX) {
            let (first, last) = (starts[0], *starts.last().expect("chunks are not empty"));
            let end = last + self.length_at(last);
            let flags = u16::from_ne_bytes([self.bytes[last + 6], self.bytes[last + 7]]) | libc::NLM_F_ACK as u16;
            self.bytes[last + 6..last + 8].copy_from_slice(&flags.to_ne_bytes());
            socket.0.send(&self.bytes[first..end], 0).expect("send the requests");
            let answer = socket.receive();
            let errno = i32::from_ne_bytes(answer[16..20].try_into().expect("four bytes"));
            assert_eq!(
                errno,
                0,
                "the kernel rejected a request of the raw baseline: {}",
                io::Error::from_raw_os_error(-errno)
            );
        }
    }

    fn length_at(&self, start: usize) -> usize {
        u32::from_ne_bytes(self.bytes[start..start + 4].try_into().expect("four bytes")) as usize
    }
}

/// NETLINK_ROUTE socket, bound to the namespace in which it was opened.
pub struct WireSocket(Socket);

impl WireSocket {
    /// Opens a socket in the calling thread's namespace.
    pub fn open() -> Self {
        let mut socket = Socket::new(NETLINK_ROUTE).expect("open a netlink socket");
        socket.bind(&SocketAddr::new(0, 0)).expect("bind the netlink socket");
        socket.set_netlink_get_strict_chk(true).expect("turn on strict checking");
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::RcvBufForce, &BUFFER_BYTES).expect("enlarge the receive buffer");
        nix::sys::socket::setsockopt(&socket, nix::sys::socket::sockopt::SndBufForce, &BUFFER_BYTES).expect("enlarge the send buffer");
        Self(socket)
    }

    fn receive(&self) -> Vec<u8> {
        let mut datagram = Vec::with_capacity(32 * 1024);
        self.0.recv(&mut datagram, 0).expect("receive from the kernel");
        datagram
    }

    /// Sends a dump request. Returns the number of objects whose payload satisfies `matches`.
    pub fn count(&self, kind: u16, fixed: &[u8], matches: impl Fn(&[u8]) -> bool) -> usize {
        let mut batch = Batch::default();
        batch.request(kind, libc::NLM_F_DUMP, fixed);
        self.0.send(&batch.bytes, 0).expect("send the dump request");
        let mut count = 0;
        loop {
            let datagram = self.receive();
            let mut rest = datagram.as_slice();
            while rest.len() >= 16 {
                let length = u32::from_ne_bytes(rest[..4].try_into().expect("four bytes")) as usize;
                match i32::from(u16::from_ne_bytes([rest[4], rest[5]])) {
                    libc::NLMSG_DONE => return count,
                    libc::NLMSG_ERROR => panic!("the kernel rejected the dump request {kind}"),
                    _ => count += usize::from(matches(&rest[16..length])),
                }
                rest = rest.get(length.next_multiple_of(4)..).unwrap_or_default();
            }
        }
    }
}
