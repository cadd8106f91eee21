//! What only the system's own calls can do.

#![allow(unsafe_code, reason = "inherited descriptors and the C library's heap have no safe form")]

use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};

use epmd_server::{InheritanceError, mapped_code};
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

/// Gives memory back to the system: what the C library keeps for later, and the code of
/// the virtual machine and of this library. What of that is called again is mapped again.
pub(crate) fn trim_memory() {
    #[cfg(target_env = "gnu")]
    // SAFETY: it takes the locks of the heap that it needs.
    unsafe {
        libc::malloc_trim(0);
    }
    #[cfg(target_os = "linux")]
    for address in [trim_memory as *const () as usize, entry_point()] {
        if let Some(code) = mapped_code(address) {
            // SAFETY: what is there is what the file has, before and after. It cannot
            // have been unmapped meanwhile: this library runs, and so does the program.
            unsafe {
                libc::madvise(code.start as *mut libc::c_void, code.len(), libc::MADV_DONTNEED);
            }
        }
    }
}

/// Where the program begins.
#[cfg(target_os = "linux")]
fn entry_point() -> usize {
    // SAFETY: it reads what the process was started with.
    usize::try_from(unsafe { libc::getauxval(libc::AT_ENTRY) }).unwrap_or(0)
}
