//! What only the system's own calls can do.

#![allow(unsafe_code, reason = "inherited descriptors and the C library's heap have no safe form")]

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use epmd_server::InheritanceError;
use rustix::io::{FdFlags, fcntl_setfd};

/// Takes the descriptors of these numbers, which this process was started with. The
/// programs that the VM starts will not get them.
///
/// # Errors
/// [`InheritanceError::NotListening`] with the first that is not open.
pub(crate) fn take_descriptors(numbers: &[i32]) -> Result<Vec<OwnedFd>, InheritanceError> {
    for &number in numbers {
        // SAFETY: it is used for one call, which fails if it is not open.
        let descriptor = (number >= 0).then(|| unsafe { BorrowedFd::borrow_raw(number) });
        let kept = descriptor.map(|descriptor| fcntl_setfd(descriptor, FdFlags::CLOEXEC));
        if !matches!(kept, Some(Ok(()))) {
            return Err(InheritanceError::NotListening(number));
        }
    }
    // SAFETY: they are open. By the protocol of LISTEN_FDS they are this
    // process's, and nobody else takes them: the caller forgets the numbers.
    let take = |&number| unsafe { OwnedFd::from_raw_fd(number) };
    Ok(numbers.iter().map(take).collect())
}

/// Gives memory that the C library keeps for later back to the system.
pub(crate) fn trim_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the locks of the heap that it needs.
    unsafe {
        libc::malloc_trim(0);
    }
}
