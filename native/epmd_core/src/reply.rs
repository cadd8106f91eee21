//! The replies, as bytes. They borrow from the registry: a listing is written
//! from it in one pass.

use std::fmt::Display;

use crate::limits::{REFUSED_CREATION, VERSION_WITH_WIDE_CREATION, tag};
use crate::{Creation, Glob, Node, Registry};

/// What goes back to the peer.
#[derive(Debug)]
pub enum Reply<'r> {
    /// Nothing: the connection is closed unanswered.
    Nothing,
    /// To ALIVE2: the creation, or that the registration was refused.
    Alive2 {
        /// The highest version in the request; it decides the form.
        highest_version: u16,
        /// None when refused.
        creation: Option<Creation>,
    },
    /// To PORT_PLEASE2: the node with its name, or that there is none.
    PortPlease2(Option<(&'r str, &'r Node)>),
    /// To NAMES, and to MATCH.
    Names {
        /// The port that the port mapper itself listens on.
        epmd_port: u16,
        /// What to list.
        registry: &'r Registry,
        /// Of that, the names that fit this pattern; all without one.
        glob: Option<Glob>,
    },
    /// To DUMP.
    Dump {
        /// The port that the port mapper itself listens on.
        epmd_port: u16,
        /// What to list.
        registry: &'r Registry,
    },
    /// To INFO: the counts of the registry. Whoever serves appends what it
    /// knows, each as [`push_fact`] does.
    Info {
        /// The port that the port mapper itself listens on.
        epmd_port: u16,
        /// What to count.
        registry: &'r Registry,
    },
    /// To INFO with a name: what the registry knows of the node, or nothing if
    /// there is none. Whoever serves appends who holds the name.
    NodeInfo {
        /// The port that the port mapper itself listens on.
        epmd_port: u16,
        /// The node.
        node: Option<&'r Node>,
    },
    /// To KILL: whether the port mapper ends.
    Kill(bool),
    /// To STOP: whether there was such a name.
    Stop(bool),
}

impl Reply<'_> {
    /// Appends the reply as it goes over the wire.
    pub fn encode(&self, out: &mut Vec<u8>) {
        match *self {
            Self::Nothing => {}
            Self::Alive2 { highest_version, creation } => {
                let number = creation.map_or(REFUSED_CREATION, |c| c.for_version(highest_version));
                let result = u8::from(creation.is_none());
                if highest_version >= VERSION_WITH_WIDE_CREATION {
                    out.extend([tag::ALIVE2_X_RESP, result]);
                    out.extend(number.to_be_bytes());
                } else {
                    out.extend([tag::ALIVE2_RESP, result]);
                    out.extend((number as u16).to_be_bytes());
                }
            }
            Self::PortPlease2(None) => out.extend([tag::PORT2_RESP, 1]),
            Self::PortPlease2(Some((name, node))) => {
                let registration = &node.registration;
                out.extend([tag::PORT2_RESP, 0]);
                out.extend(registration.port.to_be_bytes());
                out.extend([registration.node_type, registration.protocol]);
                out.extend(registration.highest_version.to_be_bytes());
                out.extend(registration.lowest_version.to_be_bytes());
                for part in [name.as_bytes(), &registration.extra] {
                    // At most 1,020 each, by the rules of the registry.
                    out.extend((part.len() as u16).to_be_bytes());
                    out.extend(part);
                }
            }
            Self::Names { epmd_port, registry, ref glob } => {
                out.extend(u32::from(epmd_port).to_be_bytes());
                for (name, node) in registry.nodes() {
                    if glob.as_ref().is_some_and(|glob| !glob.matches(name.as_str())) {
                        continue;
                    }
                    out.extend(b"name ");
                    out.extend(name.as_str().as_bytes());
                    out.extend(b" at port ");
                    push_decimal(out, node.registration.port.into());
                    out.push(b'\n');
                }
            }
            Self::Dump { epmd_port, registry } => {
                out.extend(u32::from(epmd_port).to_be_bytes());
                for (name, node) in registry.nodes() {
                    out.extend(b"active name     <");
                    out.extend(name.as_str().as_bytes());
                    out.extend(b"> at port ");
                    push_decimal(out, node.registration.port.into());
                    out.extend(b", fd = ");
                    push_decimal(out, node.owner.descriptor());
                    out.extend(b"\n\0");
                }
                for (name, gone) in registry.remembered() {
                    out.extend(b"old/unused name <");
                    out.extend(name.as_str().as_bytes());
                    out.extend(b">, port = ");
                    push_decimal(out, gone.port.into());
                    out.extend(b", fd = ");
                    push_decimal(out, gone.descriptor);
                    out.extend(b" \n\0");
                }
            }
            Self::Info { epmd_port, registry } => {
                out.extend(u32::from(epmd_port).to_be_bytes());
                push_fact(out, "nodes", registry.len());
                push_fact(out, "remembered", registry.remembered().len());
            }
            Self::NodeInfo { epmd_port, node } => {
                out.extend(u32::from(epmd_port).to_be_bytes());
                if let Some(node) = node {
                    push_fact(out, "port", node.registration.port);
                    push_fact(out, "creation", node.creation.get());
                    push_fact(out, "since_ms", node.since.0);
                    match node.peer {
                        Some(peer) => push_fact(out, "peer", peer),
                        None => push_fact(out, "peer", "vm"),
                    }
                }
            }
            Self::Kill(granted) => out.extend(if granted { b"OK" } else { b"NO" }),
            Self::Stop(true) => out.extend(b"STOPPED"),
            Self::Stop(false) => out.extend(b"NOEXIST"),
        }
    }
}

/// Appends a line of a reply to INFO: a key without spaces, and its value,
/// which has no line end.
pub fn push_fact(out: &mut Vec<u8>, key: &str, value: impl Display) {
    out.extend(format!("{key} {value}\n").into_bytes());
}

/// Appends a number as decimal text, without the machinery of `write!`.
fn push_decimal(out: &mut Vec<u8>, number: i32) {
    let mut digits = [0; 10];
    let mut rest = number.unsigned_abs();
    let mut start = digits.len();
    for digit in digits.iter_mut().rev() {
        *digit = b'0' + (rest % 10) as u8;
        start -= 1;
        rest /= 10;
        if rest == 0 {
            break;
        }
    }
    if number < 0 {
        out.push(b'-');
    }
    out.extend(digits.iter().skip(start));
}

#[cfg(test)]
mod tests {
    use super::push_decimal;

    #[test]
    fn numbers_are_written_in_decimal() {
        for number in [0, 7, 10, 4369, 65_535, -1, i32::MAX, i32::MIN] {
            let mut out = Vec::new();
            push_decimal(&mut out, number);
            assert_eq!(out, number.to_string().into_bytes());
        }
    }
}
