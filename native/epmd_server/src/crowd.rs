//! The connections that wait for their peers, and which of them goes first when
//! there are too many.
//!
//! From the source with the most of them, so that nobody gains by opening more than
//! others; of several as large, the one that has waited longest. A source is an
//! address (of IPv6 the network, a /64), and this host as a whole is one.
//!
//! Of a source, whoever has not asked for anything goes before whoever does not read
//! the reply, and each the longest idle first. Only who came a moment ago, and has
//! had no time to ask, goes last.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use epmd_core::ConnId;
use parking_lot::Mutex;
use tokio::sync::Notify;

/// How long a peer has at the least to ask for something, if anybody else can go.
pub(crate) const GRACE: Duration = Duration::from_millis(20);

/// What a connection waits for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Stage {
    /// A whole request.
    Silent,
    /// That its reply is ready, and read.
    Reading,
}

/// Who wants a place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Newcomer {
    /// A connection of this host.
    Local,
    /// One of another, for which nobody goes who has a place kept for this host.
    Remote,
    /// One that is not accepted yet, and so can wait: for it nobody goes who has just
    /// come.
    Unknown,
}

/// Where connections come from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
enum Source {
    /// The loopback addresses, of which this host has as many as it likes.
    Loopback,
    Address(IpAddr),
}

impl Source {
    fn of(ip: IpAddr) -> Self {
        match ip {
            ip if ip.is_loopback() => Self::Loopback,
            IpAddr::V4(_) => Self::Address(ip),
            IpAddr::V6(ip) => {
                let network = u128::from(ip) & (u128::MAX << 64);
                Self::Address(Ipv6Addr::from(network).into())
            }
        }
    }
}

/// The more, the sooner one of them has to go; then the longer the oldest waits.
type Rank = (usize, Reverse<u64>, Source);

#[derive(Debug)]
struct Member {
    source: Source,
    stage: Stage,
    /// The greater, the later it came, or did something.
    number: u64,
    since: Instant,
    /// Hears that it has to go.
    told: Arc<Notify>,
}

/// Those of a source, the longest idle first.
#[derive(Debug, Default)]
struct Group {
    silent: BTreeMap<u64, ConnId>,
    reading: BTreeMap<u64, ConnId>,
    rank: Option<Rank>,
}

impl Group {
    const fn of(&mut self, stage: Stage) -> &mut BTreeMap<u64, ConnId> {
        match stage {
            Stage::Silent => &mut self.silent,
            Stage::Reading => &mut self.reading,
        }
    }

    fn len(&self) -> usize {
        self.silent.len() + self.reading.len()
    }

    fn oldest(&self) -> Option<u64> {
        let [silent, reading] =
            [&self.silent, &self.reading].map(|all| all.first_key_value().map(|(&first, _)| first));
        silent.into_iter().chain(reading).min()
    }
}

/// All of them. Every change takes no longer than their number has digits.
#[derive(Debug, Default)]
pub(crate) struct Crowd(Mutex<Inner>);

#[derive(Debug, Default)]
struct Inner {
    members: HashMap<ConnId, Member>,
    groups: HashMap<Source, Group>,
    ranks: BTreeSet<Rank>,
    next: u64,
    /// How many of this host are as good as none.
    kept_for_local: usize,
}

impl Crowd {
    /// Leaves so many connections of this host in peace for others.
    pub(crate) fn keep_for_local(&self, places: usize) {
        self.0.lock().kept_for_local = places;
    }

    /// Takes a connection in. It hears when it has to go.
    pub(crate) fn enter(&self, conn: ConnId, ip: IpAddr, stage: Stage) -> Arc<Notify> {
        let told = Arc::new(Notify::new());
        let (source, since) = (Source::of(ip), Instant::now());
        let member = Member { source, stage, number: 0, since, told: told.clone() };
        self.0.lock().insert(conn, member);
        told
    }

    /// A connection has come to this stage, or goes on in it.
    pub(crate) fn advance(&self, conn: ConnId, stage: Stage) {
        let mut inner = self.0.lock();
        if let Some(member) = inner.remove(conn) {
            inner.insert(conn, Member { stage, ..member });
        }
    }

    /// A connection is in it no longer, if it was.
    pub(crate) fn leave(&self, conn: ConnId) {
        self.0.lock().remove(conn);
    }

    /// Tells some that they have to go, one in sixteen, so that there is room for
    /// more than the next; whether there were any.
    pub(crate) fn make_way(&self, newcomer: Newcomer) -> bool {
        let mut inner = self.0.lock();
        let some = inner.members.len().div_ceil(16);
        let gone = (0..some).take_while(|_| {
            let chosen = inner.choose(newcomer);
            chosen.is_some_and(|conn| inner.send_away(conn))
        });
        gone.count() > 0
    }

    /// Tells one that does not read that it has to go; whether there was one.
    pub(crate) fn make_a_reader_go(&self) -> bool {
        let mut inner = self.0.lock();
        let mut groups = inner.ranks.iter().rev().filter_map(|rank| inner.groups.get(&rank.2));
        let chosen = groups.find_map(|group| group.reading.values().next().copied());
        chosen.is_some_and(|conn| inner.send_away(conn))
    }

    /// Tells this one that it has to go, if it is there.
    pub(crate) fn send_away(&self, conn: ConnId) {
        self.0.lock().send_away(conn);
    }
}

impl Inner {
    fn insert(&mut self, conn: ConnId, mut member: Member) {
        member.number = self.next;
        self.next += 1;
        let (source, stage) = (member.source, member.stage);
        self.groups.entry(source).or_default().of(stage).insert(member.number, conn);
        self.members.insert(conn, member);
        self.rank(source);
    }

    fn remove(&mut self, conn: ConnId) -> Option<Member> {
        let member = self.members.remove(&conn)?;
        if let Some(group) = self.groups.get_mut(&member.source) {
            group.of(member.stage).remove(&member.number);
        }
        self.rank(member.source);
        Some(member)
    }

    fn send_away(&mut self, conn: ConnId) -> bool {
        self.remove(conn).map(|member| member.told.notify_one()).is_some()
    }

    fn rank(&mut self, source: Source) {
        let Some(group) = self.groups.get_mut(&source) else { return };
        if let Some(rank) = group.rank.take() {
            self.ranks.remove(&rank);
        }
        let Some(oldest) = group.oldest() else {
            self.groups.remove(&source);
            return;
        };
        let kept = if source == Source::Loopback { self.kept_for_local } else { 0 };
        let rank = (group.len().saturating_sub(kept), Reverse(oldest), source);
        group.rank = Some(rank);
        self.ranks.insert(rank);
    }

    fn choose(&self, newcomer: Newcomer) -> Option<ConnId> {
        let (size, _, source) = self.ranks.last()?;
        let group = self.groups.get(source);
        let group = group.filter(|_| newcomer != Newcomer::Remote || *size > 0)?;
        let first = |all: &BTreeMap<u64, ConnId>| all.first_key_value().map(|(_, &conn)| conn);
        let silent = first(&group.silent);
        let had_time = |conn: &ConnId| {
            self.members.get(conn).is_some_and(|member| member.since.elapsed() >= GRACE)
        };
        let idle = silent.filter(had_time).or_else(|| first(&group.reading));
        idle.or(silent.filter(|_| newcomer != Newcomer::Unknown))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who went, in their order.
    struct Scene {
        crowd: Crowd,
        told: Vec<(u32, Arc<Notify>)>,
    }

    fn conn(number: u32) -> ConnId {
        ConnId::new(number, 7)
    }

    impl Scene {
        fn new() -> Self {
            Self { crowd: Crowd::default(), told: Vec::new() }
        }

        fn enter(&mut self, number: u32, ip: &str, stage: Stage) {
            let told = self.crowd.enter(conn(number), ip.parse().unwrap(), stage);
            self.told.push((number, told));
        }

        fn silent(&mut self, number: u32, ip: &str) {
            self.enter(number, ip, Stage::Silent);
        }

        /// As if all had come long ago.
        fn pass_time(&self) {
            for member in self.crowd.0.lock().members.values_mut() {
                member.since -= GRACE;
            }
        }

        fn goes(&mut self, newcomer: Newcomer) -> Option<u32> {
            if !self.crowd.make_way(newcomer) {
                return None;
            }
            let is_told = |told: &Arc<Notify>| std::pin::pin!(told.notified()).as_mut().enable();
            let at = self.told.iter().position(|(_, told)| is_told(told));
            at.map(|at| self.told.remove(at).0)
        }

        fn all_go(&mut self) -> Vec<u32> {
            std::iter::from_fn(|| self.goes(Newcomer::Local)).collect()
        }
    }

    #[test]
    fn the_oldest_of_the_biggest_source_goes_first() {
        let mut scene = Scene::new();
        for (number, last) in [(1, 1), (2, 2), (3, 2), (4, 3), (5, 3), (6, 3)] {
            scene.silent(number, &format!("192.0.2.{last}"));
        }
        scene.pass_time();
        // Of as many, the oldest.
        assert_eq!(scene.all_go(), [4, 2, 5, 1, 3, 6]);
        assert!(scene.crowd.0.lock().groups.is_empty() && scene.crowd.0.lock().ranks.is_empty());
    }

    #[test]
    fn a_network_of_ipv6_and_the_loopback_addresses_are_one_source_each() {
        let mut scene = Scene::new();
        for (number, ip) in [
            (1, "192.0.2.1"),
            (2, "2001:db8::1"),
            (3, "2001:db8::ffff:2"),
            (4, "2001:db8:0:1::1"),
            (5, "127.0.0.1"),
            (6, "127.1.2.3"),
            (7, "::1"),
        ] {
            scene.silent(number, ip);
        }
        scene.pass_time();
        assert_eq!(scene.all_go(), [5, 2, 6, 1, 3, 4, 7]);
    }

    #[test]
    fn who_does_not_read_goes_after_who_does_not_ask_but_before_who_just_came() {
        let mut scene = Scene::new();
        scene.enter(1, "192.0.2.1", Stage::Reading);
        scene.silent(2, "192.0.2.1");
        scene.enter(3, "192.0.2.1", Stage::Reading);
        scene.pass_time();
        scene.crowd.advance(conn(1), Stage::Reading);
        scene.silent(4, "192.0.2.1");
        scene.silent(5, "192.0.2.1");
        assert_eq!(scene.all_go(), [2, 3, 1, 4, 5]);
    }

    #[test]
    fn whoever_has_asked_counts_as_a_reader_and_a_registration_is_never_sent_away() {
        let mut scene = Scene::new();
        (1..=3).for_each(|number| scene.silent(number, "192.0.2.1"));
        scene.pass_time();
        scene.crowd.advance(conn(1), Stage::Reading);
        scene.crowd.leave(conn(2));
        assert_eq!(scene.all_go(), [3, 1]);
        // What is gone does not come back.
        scene.crowd.advance(conn(2), Stage::Reading);
        assert_eq!(scene.goes(Newcomer::Local), None);
    }

    #[test]
    fn nobody_who_just_came_goes_for_one_that_can_wait() {
        let mut scene = Scene::new();
        scene.silent(1, "192.0.2.1");
        assert_eq!(scene.goes(Newcomer::Unknown), None);
        scene.pass_time();
        assert_eq!(scene.goes(Newcomer::Unknown), Some(1));
    }

    #[test]
    fn one_in_sixteen_goes_at_a_time() {
        let mut scene = Scene::new();
        (0..64).for_each(|number| scene.silent(number, "192.0.2.1"));
        assert!(scene.crowd.make_way(Newcomer::Local));
        assert_eq!(scene.crowd.0.lock().members.len(), 60);
    }

    #[test]
    fn places_that_are_kept_for_this_host_are_no_others() {
        let mut scene = Scene::new();
        scene.crowd.keep_for_local(2);
        scene.silent(1, "127.0.0.1");
        scene.silent(2, "127.0.0.1");
        scene.silent(3, "192.0.2.1");
        scene.silent(4, "192.0.2.1");
        scene.pass_time();
        assert_eq!([0; 3].map(|_| scene.goes(Newcomer::Remote)), [Some(3), Some(4), None]);
        // It has to be one of its own then.
        assert_eq!(scene.goes(Newcomer::Local), Some(1));
    }

    #[test]
    fn who_does_not_read_goes_when_memory_is_short() {
        let mut scene = Scene::new();
        scene.silent(1, "192.0.2.1");
        scene.silent(2, "192.0.2.1");
        scene.enter(3, "192.0.2.2", Stage::Reading);
        assert!(scene.crowd.make_a_reader_go());
        assert!(!scene.crowd.make_a_reader_go());
        assert_eq!(scene.all_go().len(), 2);
    }
}
