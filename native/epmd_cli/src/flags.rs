//! Every flag, once: parsing, usage and manual page come from this table.

/// What a flag means.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    Address,
    Port,
    Debug,
    Daemon,
    RelaxedCommandCheck,
    Exposure,
    MaxNodes,
    MaxNodesPerProcess,
    LocalReserve,
    Replace,
    Takeover,
    Systemd,
    PacketTimeout,
    DelayAccept,
    DelayWrite,
    Json,
    Names,
    Dump,
    Kill,
    Stop,
    Started,
    Lookup,
    Match,
    Watch,
    Info,
    Help,
    Version,
}

/// Where a flag is listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Group {
    /// They say how the port mapper is started.
    Regular,
    /// They are for tests.
    Test,
    /// They ask a running port mapper, and come last.
    Interactive,
}

impl Group {
    pub(crate) const ALL: [Self; 3] = [Self::Regular, Self::Test, Self::Interactive];

    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Regular => "Regular options",
            Self::Test => "DbgExtra options",
            Self::Interactive => "Interactive options",
        }
    }
}

/// A flag as users see it.
pub(crate) struct Flag {
    pub(crate) kind: Kind,
    pub(crate) group: Group,
    /// The first is the one that is listed first.
    pub(crate) names: &'static [&'static str],
    /// The name of its value, if it takes one; in brackets, if it may be left out.
    pub(crate) value: Option<&'static str>,
    /// Sentences.
    pub(crate) text: &'static str,
}

impl Flag {
    pub(crate) const fn name(&self) -> &'static str {
        // Every flag of the table has one.
        match self.names.first() {
            Some(name) => name,
            None => "",
        }
    }
}

const fn flag(
    kind: Kind,
    group: Group,
    names: &'static [&'static str],
    value: Option<&'static str>,
    text: &'static str,
) -> Flag {
    Flag { kind, group, names, value, text }
}

use Group::{Interactive, Regular, Test};

/// The flags in the order in which they are listed.
pub(crate) const FLAGS: &[Flag] = &[
    flag(
        Kind::Debug,
        Regular,
        &["-d", "-debug"],
        None,
        "Log to the standard error stream what nodes come and go and what is asked, and \
         remember no more than 5 names of gone nodes. Given twice it logs connections too, \
         given three times also what they send.",
    ),
    flag(
        Kind::Address,
        Regular,
        &["-address"],
        Some("List"),
        "Listen only on this comma-separated list of IP addresses, and on the loopback \
         addresses. All addresses of the host by default.",
    ),
    flag(
        Kind::Port,
        Regular,
        &["-port"],
        Some("No"),
        "The port to listen on, or to ask. 4369 by default.",
    ),
    flag(
        Kind::Daemon,
        Regular,
        &["-daemon"],
        None,
        "Start in the background. Returns as soon as the port accepts connections. Messages \
         go to the system log.",
    ),
    flag(
        Kind::RelaxedCommandCheck,
        Regular,
        &["-relaxed_command_check"],
        None,
        "Allow -kill even while nodes are registered, and allow -stop.",
    ),
    flag(
        Kind::Exposure,
        Regular,
        &["-exposure"],
        Some("Mode"),
        "What other hosts may ask for: all (look-ups and listings, the default), lookup \
         (look-ups alone), or local (nothing; only the loopback addresses are listened on).",
    ),
    flag(
        Kind::MaxNodes,
        Regular,
        &["-max_nodes"],
        Some("Count"),
        "Register no more nodes than this. Any number by default.",
    ),
    flag(
        Kind::MaxNodesPerProcess,
        Regular,
        &["-max_nodes_per_process"],
        Some("Count"),
        "Register no more nodes of one process than this. Any number by default. With it, \
         each registration takes a search for its process, some milliseconds on a busy host.",
    ),
    flag(
        Kind::LocalReserve,
        Regular,
        &["-local_reserve"],
        Some("Count"),
        "How many file descriptors other hosts leave to this one when they run short. 64 by \
         default, and half of all at the most.",
    ),
    flag(
        Kind::Replace,
        Regular,
        &["-replace"],
        None,
        "End the EPMD that holds the port, take the port at once, and wait until the nodes \
         that were registered there have registered again; those that did not within 10 \
         seconds are named. The other EPMD is asked with a KILL request; if it refuses, the \
         process that holds the port is sent SIGTERM, then SIGKILL.",
    ),
    flag(
        Kind::Takeover,
        Regular,
        &["-takeover"],
        None,
        "Take over from the port mapper of this kind that serves the port: its sockets, its \
         nodes and the requests under way. No node and no client notices more than a reply \
         that comes some milliseconds later; the other one ends then. If that fails, it goes \
         on. Both have to be of the same user, or the new one of root.",
    ),
    flag(
        Kind::Systemd,
        Regular,
        &["-systemd"],
        None,
        "Listen on the sockets that systemd hands over. They are used without this flag \
         too; with it, it is an error if there are none.",
    ),
    flag(
        Kind::PacketTimeout,
        Test,
        &["-packet_timeout"],
        Some("Seconds"),
        "How long a connection may be silent before its request is complete. 60 by default.",
    ),
    flag(
        Kind::DelayAccept,
        Test,
        &["-delay_accept"],
        Some("Seconds"),
        "Simulate a busy server: wait before connections are accepted.",
    ),
    flag(
        Kind::DelayWrite,
        Test,
        &["-delay_write"],
        Some("Seconds"),
        "Simulate a busy server: wait before a reply is sent.",
    ),
    flag(
        Kind::Names,
        Interactive,
        &["-names"],
        None,
        "List the names and ports of the registered nodes, newest first.",
    ),
    flag(
        Kind::Dump,
        Interactive,
        &["-dump"],
        None,
        "List registered nodes and remembered names with the descriptors of their connections.",
    ),
    flag(
        Kind::Lookup,
        Interactive,
        &["-lookup"],
        Some("Name"),
        "Tell what a node said of itself when it registered, since when it is registered, and \
         which process of which user holds the name. Exit status 1 if there is none.",
    ),
    flag(
        Kind::Match,
        Interactive,
        &["-match"],
        Some("Glob"),
        "As -names, of the names that match: * stands for any characters, ? for one, [a-z] for \
         one of these and [!a-z] for any other. Exit status 1 if none does.",
    ),
    flag(
        Kind::Watch,
        Interactive,
        &["-watch"],
        Some("[Glob]"),
        "Print the nodes that are registered, as -names does, and then a line for each that \
         comes or goes; of the names that match, if a pattern is given, as with -match. Goes \
         on until the connection ends, with exit status 1 then.",
    ),
    flag(
        Kind::Info,
        Interactive,
        &["-info"],
        None,
        "Tell version, addresses, uptime and counters of the running port mapper; of an EPMD \
         of another kind, what can be told.",
    ),
    flag(Kind::Started, Interactive, &["-started"], None, "Exit status 0 if one runs, else 1."),
    flag(
        Kind::Kill,
        Interactive,
        &["-kill"],
        None,
        "End the running port mapper. Allowed only while no node is registered, or with \
         -relaxed_command_check.",
    ),
    flag(
        Kind::Stop,
        Interactive,
        &["-stop"],
        Some("Name"),
        "Force a name out. Allowed only with -relaxed_command_check.",
    ),
    flag(
        Kind::Json,
        Interactive,
        &["-json"],
        None,
        "With -names, -dump, -lookup, -match, -watch or -info: print JSON.",
    ),
    flag(Kind::Version, Interactive, &["-version"], None, "Print the version."),
    flag(Kind::Help, Interactive, &["-help"], None, "Print this."),
];
