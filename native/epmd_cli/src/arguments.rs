//! The command line and the environment, read into one value.

use std::ffi::OsString;

use epmd_core::limits::DEBUG_MAX_REMEMBERED;
use epmd_server::{Config, Delay, PacketTimeout};
use thiserror::Error;

use crate::flags::{FLAGS, Flag, Kind};
use crate::values::{addresses, count, exposure, limit, port, seconds};

/// What the program is to do, and how.
#[derive(Debug)]
pub(crate) struct Arguments {
    pub(crate) config: Config,
    /// How often `-d` was given.
    pub(crate) debug: u8,
    pub(crate) json: bool,
    pub(crate) action: Action,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Start { daemon: bool, begin: Begin },
    Ask(Verb),
    Help,
    Version,
}

/// Where the sockets of a port mapper come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begin {
    /// They are bound, or handed over by a service manager.
    Bind,
    /// The EPMD that has the port ends.
    Replace,
    /// From the port mapper that has the port.
    TakeOver,
}

/// What a running port mapper is asked.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    Names,
    Dump,
    Kill,
    Stop(String),
    Started,
    Lookup(String),
    Match(String),
    Watch(String),
    Info,
}

/// A command line that makes no sense, or a variable that has a wrong value.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum UsageError {
    #[error("there is no option {0}")]
    Unknown(String),
    #[error("{flag} needs a value: {value}")]
    ValueMissing { flag: &'static str, value: &'static str },
    #[error("{name} is \"{value}\", expected {expected}")]
    WrongValue { name: &'static str, value: String, expected: &'static str },
    #[error("{0} has to be the last option")]
    NotLast(&'static str),
    #[error("-replace and -takeover exclude each other")]
    Exclusive,
    #[error("-json goes with -names, -dump, -lookup, -match, -watch and -info")]
    NoJson,
}

impl Arguments {
    /// Reads the words behind the program's name. Options win over the
    /// variables that `variable` yields.
    pub(crate) fn read(
        words: impl IntoIterator<Item = OsString>,
        variable: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, UsageError> {
        let mut arguments = Self {
            config: Config::default(),
            debug: 0,
            json: false,
            action: Action::Start { daemon: false, begin: Begin::Bind },
        };
        let mut given = Given::default();
        let words = words.into_iter().map(|word| word.to_string_lossy().into_owned());
        let mut words = words.peekable();
        while let Some(word) = words.next() {
            let flag = FLAGS.iter().find(|flag| flag.names.contains(&word.as_str()));
            let flag = flag.ok_or(UsageError::Unknown(word))?;
            if let Some(verb) = given.verb
                && flag.kind != Kind::Json
            {
                return Err(UsageError::NotLast(verb));
            }
            let value = match flag.value {
                Some(value) if value.starts_with('[') => {
                    // All names, if there is no pattern.
                    words.next_if(|word| !word.starts_with('-')).unwrap_or_else(|| "*".to_owned())
                }
                Some(value) => {
                    words.next().ok_or(UsageError::ValueMissing { flag: flag.name(), value })?
                }
                None => String::new(),
            };
            arguments.take(flag, value, &mut given)?;
        }
        arguments.take_environment(variable, &given)?;
        let prints = |verb: &Verb| !matches!(verb, Verb::Kill | Verb::Stop(_) | Verb::Started);
        if arguments.json && !matches!(&arguments.action, Action::Ask(verb) if prints(verb)) {
            return Err(UsageError::NoJson);
        }
        Ok(arguments)
    }

    fn take(
        &mut self,
        flag: &'static Flag,
        value: String,
        given: &mut Given,
    ) -> Result<(), UsageError> {
        let config = &mut self.config;
        let name = flag.name();
        match flag.kind {
            Kind::Address => {
                config.addresses = addresses(name, value)?;
                given.addresses = true;
            }
            Kind::Port => {
                config.port = port(name, value)?;
                given.port = true;
            }
            Kind::Debug => {
                self.debug = self.debug.saturating_add(1);
                config.remembered_names = DEBUG_MAX_REMEMBERED;
            }
            Kind::RelaxedCommandCheck => config.relaxed_command_check = true,
            Kind::Exposure => config.exposure = exposure(name, value)?,
            Kind::MaxNodes => config.max_nodes = limit(name, value)?,
            Kind::MaxNodesPerProcess => config.max_nodes_per_process = limit(name, value)?,
            Kind::LocalReserve => config.local_reserve = count(name, value)?,
            Kind::Systemd => config.systemd = true,
            Kind::PacketTimeout => config.packet_timeout = seconds::<PacketTimeout>(name, value)?,
            Kind::DelayAccept => config.delay_accept = seconds::<Delay>(name, value)?,
            Kind::DelayWrite => config.delay_write = seconds::<Delay>(name, value)?,
            Kind::Daemon => {
                if let Action::Start { daemon, .. } = &mut self.action {
                    *daemon = true;
                }
            }
            Kind::Replace => self.begin_by(Begin::Replace)?,
            Kind::Takeover => {
                self.begin_by(Begin::TakeOver)?;
                self.config.takeover = true;
            }
            Kind::Json => self.json = true,
            Kind::Names => given.ask(self, name, Verb::Names),
            Kind::Dump => given.ask(self, name, Verb::Dump),
            Kind::Kill => given.ask(self, name, Verb::Kill),
            Kind::Stop => given.ask(self, name, Verb::Stop(value)),
            Kind::Started => given.ask(self, name, Verb::Started),
            Kind::Lookup => given.ask(self, name, Verb::Lookup(value)),
            Kind::Match => given.ask(self, name, Verb::Match(value)),
            Kind::Watch => given.ask(self, name, Verb::Watch(value)),
            Kind::Info => given.ask(self, name, Verb::Info),
            Kind::Help => self.action = Action::Help,
            Kind::Version => self.action = Action::Version,
        }
        Ok(())
    }

    fn begin_by(&mut self, new: Begin) -> Result<(), UsageError> {
        if let Action::Start { begin, .. } = &mut self.action {
            if *begin != Begin::Bind && *begin != new {
                return Err(UsageError::Exclusive);
            }
            *begin = new;
        }
        Ok(())
    }

    /// As in `epmd`; but a port that is none is an error, not 0.
    fn take_environment(
        &mut self,
        variable: impl Fn(&str) -> Option<OsString>,
        given: &Given,
    ) -> Result<(), UsageError> {
        let text = |name: &str| variable(name).map(|value| value.to_string_lossy().into_owned());
        if !given.addresses
            && let Some(list) = text("ERL_EPMD_ADDRESS")
        {
            self.config.addresses = addresses("ERL_EPMD_ADDRESS", list)?;
        }
        if !given.port
            && let Some(number) = text("ERL_EPMD_PORT").filter(|text| !text.is_empty())
        {
            self.config.port = port("ERL_EPMD_PORT", number)?;
        }
        // Any value switches it on, even an empty one.
        self.config.relaxed_command_check |= text("ERL_EPMD_RELAXED_COMMAND_CHECK").is_some();
        Ok(())
    }
}

/// What the command line has said already.
#[derive(Default)]
struct Given {
    addresses: bool,
    port: bool,
    verb: Option<&'static str>,
}

impl Given {
    fn ask(&mut self, arguments: &mut Arguments, name: &'static str, verb: Verb) {
        self.verb = Some(name);
        arguments.action = Action::Ask(verb);
    }
}

#[cfg(test)]
mod tests {
    use epmd_core::Exposure;
    use epmd_core::limits::DEFAULT_PORT;
    use epmd_server::Addresses;

    use super::*;

    fn read(line: &str) -> Result<Arguments, UsageError> {
        read_with(line, &[])
    }

    fn read_with(line: &str, variables: &[(&str, &str)]) -> Result<Arguments, UsageError> {
        let variable = |wanted: &str| {
            let found = variables.iter().find(|(name, _)| *name == wanted);
            found.map(|(_, value)| OsString::from(value))
        };
        Arguments::read(line.split_whitespace().map(OsString::from), variable)
    }

    #[test]
    fn without_options_it_starts_on_the_default_port_of_all_addresses() {
        let arguments = read("").unwrap();
        assert_eq!(arguments.config, Config::default());
        assert_eq!(arguments.config.port, DEFAULT_PORT);
        assert_eq!(arguments.action, Action::Start { daemon: false, begin: Begin::Bind });
    }

    #[test]
    fn options_win_over_the_environment() {
        let variables = [
            ("ERL_EPMD_PORT", "5000"),
            ("ERL_EPMD_ADDRESS", " 127.0.0.2,, ::1 "),
            ("ERL_EPMD_RELAXED_COMMAND_CHECK", ""),
        ];
        let config = read_with("", &variables).unwrap().config;
        let list = vec!["127.0.0.2".parse().unwrap(), "::1".parse().unwrap()];
        assert_eq!((config.port, config.addresses), (5000, Addresses::List(list)));
        assert!(config.relaxed_command_check);
        let config = read_with("-port 5001 -address ,", &variables).unwrap().config;
        assert_eq!((config.port, config.addresses), (5001, Addresses::All));
        // What an option replaces may be wrong.
        assert!(read_with("-port 5001 -names", &[("ERL_EPMD_PORT", "abc")]).is_ok());
        assert_eq!(read_with("", &[("ERL_EPMD_PORT", "")]).unwrap().config.port, DEFAULT_PORT);
    }

    #[test]
    fn a_verb_is_the_last_option_but_for_json() {
        assert_eq!(read("-port 5 -stop n1").unwrap().action, Action::Ask(Verb::Stop("n1".into())));
        assert_eq!(read("-names -port 5").unwrap_err(), UsageError::NotLast("-names"));
        assert_eq!(read("-names -dump").unwrap_err(), UsageError::NotLast("-names"));
        for line in ["-json -names", "-names -json", "-d -lookup n1 -json"] {
            assert!(read(line).unwrap().json, "{line}");
        }
        for line in ["-json", "-kill -json", "-json -stop n1", "-started -json", "-daemon -json"] {
            assert_eq!(read(line).unwrap_err(), UsageError::NoJson, "{line}");
        }
    }

    #[test]
    fn watch_takes_a_pattern_or_none() {
        for (line, glob, json) in [
            ("-watch", "*", false),
            ("-watch web*", "web*", false),
            ("-watch -json", "*", true),
            ("-watch n? -json", "n?", true),
        ] {
            let arguments = read(line).unwrap();
            let action = Action::Ask(Verb::Watch(glob.into()));
            assert_eq!((arguments.action, arguments.json), (action, json), "{line}");
        }
        assert_eq!(read("-watch a b").unwrap_err(), UsageError::Unknown("b".into()));
    }

    #[test]
    fn wrong_values_are_named() {
        for (line, text) in [
            ("-port 0", "-port is \"0\", expected a port, from 1 to 65535"),
            ("-port x", "-port is \"x\", expected a port, from 1 to 65535"),
            ("-port 65536", "-port is \"65536\", expected a port, from 1 to 65535"),
            ("-port", "-port needs a value: No"),
            ("-stop", "-stop needs a value: Name"),
            ("names", "there is no option names"),
            ("-max_nodes 0", "-max_nodes is \"0\", expected a number, from 1 to 4294967295"),
            (
                "-max_nodes_per_process all",
                "-max_nodes_per_process is \"all\", expected a number, from 1 to 4294967295",
            ),
            (
                "-local_reserve -1",
                "-local_reserve is \"-1\", expected a number, from 0 to 4294967295",
            ),
            ("-exposure none", "-exposure is \"none\", expected all, lookup or local"),
            (
                "-packet_timeout 0",
                "-packet_timeout is \"0\", expected a whole number of seconds, from 1 to 86400",
            ),
            (
                "-address 127.0.0.1,host",
                "-address is \"127.0.0.1,host\", expected a list of at most 16 IPv4 or IPv6 \
                 addresses, separated by commas",
            ),
        ] {
            assert_eq!(read(line).unwrap_err().to_string(), text);
        }
        let error = read_with("", &[("ERL_EPMD_PORT", "abc")]).unwrap_err().to_string();
        assert_eq!(error, "ERL_EPMD_PORT is \"abc\", expected a port, from 1 to 65535");
    }

    #[test]
    fn a_port_mapper_is_replaced_or_taken_over_from() {
        for line in ["-takeover", "-daemon -takeover", "-takeover -daemon -takeover"] {
            let arguments = read(line).unwrap();
            let daemon = line.contains("-daemon");
            assert_eq!(arguments.action, Action::Start { daemon, begin: Begin::TakeOver });
            assert!(arguments.config.takeover);
        }
        for line in ["-takeover -replace", "-replace -daemon -takeover"] {
            assert_eq!(read(line).unwrap_err(), UsageError::Exclusive, "{line}");
        }
    }

    #[test]
    fn exposure_is_one_of_three_words() {
        for (line, exposure) in [
            ("", Exposure::All),
            ("-exposure all", Exposure::All),
            ("-exposure lookup", Exposure::Lookup),
            ("-exposure local", Exposure::Local),
        ] {
            assert_eq!(read(line).unwrap().config.exposure, exposure);
        }
    }

    #[test]
    fn debugging_has_levels_and_remembers_less() {
        let arguments = read("-d -debug -d").unwrap();
        assert_eq!((arguments.debug, arguments.config.remembered_names), (3, 5));
    }
}
