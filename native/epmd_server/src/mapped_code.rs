//! Where this process has the code of programs and libraries in memory.

use std::ops::Range;

/// The code of the file that has what is at this address, if nobody has written to it
/// since it was mapped: what is there is what the file has. None where the system does
/// not tell.
#[must_use]
pub fn mapped_code(address: usize) -> Option<Range<usize>> {
    let smaps = std::fs::read_to_string("/proc/self/smaps").ok()?;
    code_in(&smaps).into_iter().find(|code| code.contains(&address))
}

/// See proc_pid_smaps(5): a line for each mapping, then its figures, `VmFlags` last.
fn code_in(smaps: &str) -> Vec<Range<usize>> {
    let mut found = Vec::new();
    let mut candidate = None;
    for line in smaps.lines() {
        let mut fields = line.split_ascii_whitespace();
        match fields.next() {
            // A breakpoint, a relocation.
            Some("Anonymous:" | "Swap:") if fields.next() != Some("0") => candidate = None,
            Some("VmFlags:") => found.extend(candidate.take()),
            Some(range) if !range.ends_with(':') => {
                let (permissions, path) = (fields.next(), fields.nth(3));
                let is_file = path.is_some_and(|path| path.starts_with('/'));
                candidate = addresses(range).filter(|_| permissions == Some("r-xp") && is_file);
            }
            _ => {}
        }
    }
    found
}

fn addresses(range: &str) -> Option<Range<usize>> {
    let (start, end) = range.split_once('-')?;
    let number = |text| usize::from_str_radix(text, 16).ok();
    Some(number(start)?..number(end)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_code_of_a_file_that_was_not_written_to() {
        let entry = |range, permissions, path, anonymous: u8, swap: u8| {
            format!(
                "{range} {permissions} 00001000 fe:00 1234    {path}\nSize: 8 kB\n\
                 Anonymous:    {anonymous} kB\nSwap: {swap} kB\nVmFlags: rd ex mr mw me\n"
            )
        };
        let smaps = [
            entry("1000-3000", "r-xp", "/usr/bin/a program", 0, 0),
            entry("3000-4000", "r--p", "/usr/bin/program", 0, 0),
            entry("4000-5000", "r-xp", "/lib/relocated.so", 4, 0),
            entry("5000-6000", "r-xp", "/lib/relocated.so", 0, 4),
            entry("6000-7000", "r-xs", "/memfd:vmem (deleted)", 0, 0),
            entry("7000-8000", "r-xp", "[vdso]", 0, 0),
            entry("8000-9000", "r-xp", "", 0, 0),
            entry("7f15d0000000-7f15d0001000", "r-xp", "/lib/last.so (deleted)", 0, 0),
        ];
        let expected = [0x1000..0x3000, 0x7f15_d000_0000..0x7f15_d000_1000];
        assert_eq!(code_in(&smaps.concat()), expected);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn this_process_has_some() {
        let here = this_process_has_some as *const () as usize;
        assert!(mapped_code(here).is_some());
        assert_eq!(mapped_code(&raw const here as usize), None);
    }
}
