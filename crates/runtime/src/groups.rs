//! Connections of a worker that belong together, such as the tunnels to one server, so that some of
//! them can be told to leave.
//!
//! A connection joins at most one group. It costs four bytes in its group; its seat there is within
//! what its place has anyway. To take one out does not take a search.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use slab::Slab;

use crate::deadline::Tick;

/// How many are in a group, over all workers. Who has been told to leave is not counted any more.
#[derive(Debug, Default)]
pub struct Members(AtomicU32);

impl Members {
    pub fn count(&self) -> u32 {
        self.0.load(Ordering::Relaxed)
    }
}

/// Which members of a group are told to leave.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Whom {
    pub order: Order,
    /// Who has joined less than this ago is left alone.
    pub min_age: Tick,
}

/// In which order they are told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// Any.
    Random,
    /// Of a few taken by chance, the one that has been there longest.
    Oldest,
}

/// Where in the groups a connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Seat {
    pub(crate) group: u16,
    pub(crate) position: u32,
}

/// The groups of a worker.
#[derive(Debug, Default)]
pub(crate) struct Groups {
    by_id: HashMap<u32, u16>,
    all: Slab<Group>,
}

#[derive(Debug)]
struct Group {
    id: u32,
    /// The keys of its connections, in no order.
    keys: Vec<u32>,
    members: Arc<Members>,
}

impl Groups {
    /// `None` when there are more groups than a seat has numbers for; who has no seat is never told
    /// to leave.
    pub(crate) fn join(&mut self, id: u32, members: &Arc<Members>, key: u32) -> Option<Seat> {
        let group = match self.by_id.get(&id) {
            Some(&group) => group,
            None => {
                let entry = self.all.vacant_entry();
                let group = u16::try_from(entry.key()).ok().filter(|&it| it != NO_GROUP)?;
                entry.insert(Group { id, keys: Vec::new(), members: Arc::clone(members) });
                self.by_id.insert(id, group);
                group
            }
        };
        let group_of = &mut self.all[usize::from(group)];
        let position = u32::try_from(group_of.keys.len()).ok()?;
        group_of.keys.push(key);
        group_of.members.0.fetch_add(1, Ordering::Relaxed);
        Some(Seat { group, position })
    }

    /// Returns the key of whoever has this seat now.
    pub(crate) fn leave(&mut self, seat: Seat) -> Option<u32> {
        let group = &mut self.all[usize::from(seat.group)];
        group.keys.swap_remove(seat.position as usize);
        group.members.0.fetch_sub(1, Ordering::Relaxed);
        if group.keys.is_empty() {
            let group = self.all.remove(usize::from(seat.group));
            self.by_id.remove(&group.id);
            return None;
        }
        // A burst must not hold its memory for ever.
        if group.keys.capacity() > 1024 && group.keys.len() < group.keys.capacity() / 4 {
            group.keys.shrink_to(group.keys.len() * 2);
        }
        group.keys.get(seat.position as usize).copied()
    }

    pub(crate) fn len(&self, id: u32) -> usize {
        self.group(id).map_or(0, |group| group.keys.len())
    }

    /// One of a group who may be told to leave. `since` is when a connection has joined, `below` a
    /// number by chance.
    pub(crate) fn pick(
        &self,
        id: u32,
        whom: Whom,
        now: Tick,
        since: impl Fn(u32) -> Tick,
        mut below: impl FnMut(usize) -> usize,
    ) -> Option<u32> {
        let keys = &self.group(id)?.keys;
        let may_go = |&key: &u32| now.saturating_sub(since(key)) >= whom.min_age;
        let mut few = (0..FEW).map(|_| keys[below(keys.len())]).filter(may_go);
        let picked = match whom.order {
            Order::Random => few.next(),
            Order::Oldest => few.min_by_key(|&key| since(key)),
        };
        // Where nearly all are young, chance hardly ever finds the others.
        let start = below(keys.len());
        let all = || keys[start..].iter().chain(&keys[..start]).copied();
        picked.or_else(|| all().take(MANY).find(may_go))
    }

    fn group(&self, id: u32) -> Option<&Group> {
        self.by_id.get(&id).map(|&group| &self.all[usize::from(group)])
    }
}

/// The number of no group.
pub(crate) const NO_GROUP: u16 = u16::MAX;

const FEW: usize = 8;
const MANY: usize = 1024;

#[cfg(test)]
mod tests {
    use super::*;

    const ANY: Whom = Whom { order: Order::Random, min_age: 0 };

    #[test]
    fn who_comes_and_goes_by_chance_is_found_where_it_sits() {
        for seed in 0..50 {
            let mut random = fastrand::Rng::with_seed(seed);
            let mut groups = Groups::default();
            let members = [(); 3].map(|()| Arc::<Members>::default());
            let mut seats: HashMap<u32, (u32, Seat)> = HashMap::new();
            for key in 0..500 {
                let id = random.u32(0..3);
                let seat = groups.join(id, &members[id as usize], key).unwrap();
                seats.insert(key, (id, seat));
                if random.u8(0..10) < 7 {
                    let leaver = *random.choice(seats.keys().collect::<Vec<_>>()).unwrap();
                    let (id, seat) = seats.remove(&leaver).unwrap();
                    if let Some(moved) = groups.leave(seat) {
                        seats.insert(moved, (id, seat));
                    }
                }
            }
            for (key, (id, seat)) in &seats {
                let group = groups.group(*id).unwrap();
                assert_eq!(group.keys[seat.position as usize], *key, "seed {seed}");
            }
            for id in 0..3 {
                let expected = seats.values().filter(|(of, _)| *of == id).count();
                assert_eq!(groups.len(id), expected, "seed {seed}");
                assert_eq!(members[id as usize].count() as usize, expected, "seed {seed}");
            }
        }
    }

    #[test]
    fn a_group_without_members_is_gone() {
        let mut groups = Groups::default();
        let members = Arc::default();
        let seat = groups.join(7, &members, 1).unwrap();
        assert_eq!(groups.leave(seat), None);
        assert!(groups.by_id.is_empty() && groups.all.is_empty());
        assert_eq!(groups.pick(7, ANY, 0, |_| 0, |_| 0), None);
    }

    #[test]
    fn the_young_are_left_alone_and_the_old_are_found_among_them() {
        let mut groups = Groups::default();
        let members = Arc::default();
        for key in 0..1000 {
            groups.join(1, &members, key);
        }
        let mut random = fastrand::Rng::with_seed(1);
        let mut pick = |order, min_age, since: fn(u32) -> Tick| {
            groups.pick(1, Whom { order, min_age }, 1000, since, |most| random.usize(0..most))
        };
        assert_eq!(pick(Order::Random, 1, |_| 1000), None);
        assert_eq!(pick(Order::Random, 10, |key| if key == 500 { 0 } else { 999 }), Some(500));
        assert_eq!(pick(Order::Oldest, 10, |key| if key == 500 { 0 } else { 999 }), Some(500));
        // The key is the age: of eight by chance, the oldest is among the oldest half nearly always.
        let old = (0..200).filter(|_| pick(Order::Oldest, 0, |key| key) < Some(500)).count();
        assert!(old > 190, "{old}");
        let any = (0..200).filter(|_| pick(Order::Random, 0, |key| key) < Some(500)).count();
        assert!((60..140).contains(&any), "{any}");
    }
}
