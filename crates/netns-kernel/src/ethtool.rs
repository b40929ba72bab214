//! Reads and sets checksum offloading through the SIOCETHTOOL ioctl (netdevice(7), linux/ethtool.h).

use std::{
    io,
    os::fd::{AsRawFd, OwnedFd},
};

use nix::{
    libc,
    sys::socket::{AddressFamily, SockFlag, SockType, socket},
};

use super::write_count;

/// A direction of checksum offloading.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Checksum {
    /// Receive checksum offloading.
    Rx,
    /// Transmit checksum offloading.
    Tx,
}

impl Checksum {
    /// Returns the command that reads the state: ETHTOOL_GRXCSUM or ETHTOOL_GTXCSUM.
    fn get(self) -> u32 {
        match self {
            Self::Rx => 0x14,
            Self::Tx => 0x16,
        }
    }

    /// Returns the command that sets the state: ETHTOOL_SRXCSUM or ETHTOOL_STXCSUM. In linux/ethtool.h, the number of each set
    /// command is one higher than the number of its get command.
    fn set(self) -> u32 {
        self.get() + 1
    }
}

/// `struct ethtool_value` of linux/ethtool.h.
#[repr(C)]
struct EthtoolValue {
    cmd: u32,
    data: u32,
}

/// An AF_INET datagram socket. Its ioctls apply to the links of the namespace in which the socket was opened.
pub(super) struct EthtoolSocket(OwnedFd);

impl EthtoolSocket {
    /// Opens a socket in the namespace of the calling thread.
    pub fn open() -> io::Result<Self> {
        Ok(Self(socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_CLOEXEC, None)?))
    }

    /// Returns whether checksum offloading of a link is on.
    pub fn get(&self, link: &str, direction: Checksum) -> io::Result<bool> {
        self.call(link, direction.get(), 0).map(|data| data != 0)
    }

    /// Switches checksum offloading on or off, unless it is already in the desired state.
    ///
    /// Reading the state takes only a tenth as long as setting it, because setting it restarts the queues.
    pub fn set(&self, link: &str, direction: Checksum, on: bool) -> io::Result<()> {
        if self.get(link, direction)? == on {
            return Ok(());
        }
        write_count::add(1);
        self.call(link, direction.set(), u32::from(on)).map(drop)
    }

    #[allow(unsafe_code)]
    fn call(&self, link: &str, cmd: u32, data: u32) -> io::Result<u32> {
        let mut value = EthtoolValue { cmd, data };
        // SAFETY: all fields of ifreq are integers, arrays of integers, or pointers, for which zero is valid.
        let mut request: libc::ifreq = unsafe { std::mem::zeroed() };
        // The name must be shorter than the field, so that the last byte stays NUL.
        if link.is_empty() || link.len() >= request.ifr_name.len() {
            return Err(io::Error::from_raw_os_error(libc::ENODEV));
        }
        for (to, from) in request.ifr_name.iter_mut().zip(link.bytes()) {
            *to = from as libc::c_char;
        }
        request.ifr_ifru.ifru_data = (&raw mut value).cast();
        // SAFETY: the descriptor is open, `request` is a complete ifreq with a NUL-terminated name, and `value` is alive and
        // has the layout that the four commands read and write (struct ethtool_value).
        let result = unsafe { libc::ioctl(self.0.as_raw_fd(), libc::SIOCETHTOOL as _, &raw mut request) };
        if result < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(value.data)
        }
    }
}
