//! Values of options and variables, from text. Each takes the name of what has it, for
//! the error that says what would be right.

use std::net::IpAddr;

use epmd_core::Exposure;
use epmd_server::{Addresses, Limit};

use crate::arguments::UsageError;

/// Who may ask.
pub(crate) fn exposure(name: &'static str, value: String) -> Result<Exposure, UsageError> {
    match value.as_str() {
        "all" => Ok(Exposure::All),
        "lookup" => Ok(Exposure::Lookup),
        "local" => Ok(Exposure::Local),
        _ => Err(UsageError::WrongValue { name, value, expected: "all, lookup or local" }),
    }
}

/// How many there may be.
pub(crate) fn limit(name: &'static str, value: String) -> Result<Limit, UsageError> {
    let limit = value.trim().parse().ok().and_then(|max: u32| max.try_into().ok());
    limit.ok_or(UsageError::WrongValue { name, value, expected: "a number, from 1 to 4294967295" })
}

/// A number that may be 0.
pub(crate) fn count(name: &'static str, value: String) -> Result<u32, UsageError> {
    let count = value.trim().parse().ok();
    count.ok_or(UsageError::WrongValue { name, value, expected: "a number, from 0 to 4294967295" })
}

/// A port that can be listened on.
pub(crate) fn port(name: &'static str, value: String) -> Result<u16, UsageError> {
    let port = value.trim().parse().ok().filter(|&port| port != 0);
    let expected = "a port, from 1 to 65535";
    port.ok_or(UsageError::WrongValue { name, value, expected })
}

/// A time: in whole seconds, no longer than a day.
pub(crate) fn seconds<T: TryFrom<u32>>(name: &'static str, value: String) -> Result<T, UsageError> {
    let number = value.trim().parse().ok().filter(|&number| number != 0);
    let expected = "a whole number of seconds, from 1 to 86400";
    number.and_then(|number: u32| T::try_from(number).ok()).ok_or(UsageError::WrongValue {
        name,
        value,
        expected,
    })
}

/// Where to listen. A list of nothing means all addresses.
pub(crate) fn addresses(name: &'static str, value: String) -> Result<Addresses, UsageError> {
    let words = value.split([' ', ',']).filter(|word| !word.is_empty());
    let list: Result<Vec<IpAddr>, _> = words.map(str::parse).collect();
    match list {
        Ok(list) if list.is_empty() => Ok(Addresses::All),
        Ok(list) if list.len() <= epmd_core::limits::MAX_ADDRESSES => Ok(Addresses::List(list)),
        _ => {
            let expected = "a list of at most 16 IPv4 or IPv6 addresses, separated by commas";
            Err(UsageError::WrongValue { name, value, expected })
        }
    }
}
