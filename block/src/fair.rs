//! The order in which users are served who wait for one device: each gets of it as much as its
//! weight says, as long as it has something waiting.
//!
//! The users take turns in a ring. One whose turn comes gets a credit by its weight, and is served
//! while it has credit left; what it is served is taken from that afterwards, and a debt is carried
//! into its next turn (surplus round robin: Adiseshu, Parulkar, Varghese, "A Reliable and Scalable
//! Striping Protocol", 1996; the deficit round robin that need not know costs beforehand).

use alloc::collections::VecDeque;

use crate::User;

/// The credit of a turn for each unit of weight. With the least weight it is less than a small
/// request costs, so that a turn of a heavy user is not long.
const CREDIT_PER_WEIGHT: i64 = 64;
/// The most that is charged for one service: sums of debts fit 64 bits.
const MAX_COST: u64 = 1 << 32;

/// A service of [`FairQueue::serve`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Served {
    /// How much of the device that takes, in a unit of the caller's (bytes).
    pub cost: u64,
    /// Nothing is left of the item: it leaves the queue.
    pub is_over: bool,
}

/// Items of several users that wait. Those of one user are served in their order.
#[derive(Debug)]
pub struct FairQueue<T> {
    /// Those with items, and those without that owe; the first with credit has its turn.
    turns: VecDeque<Turn<T>>,
}

#[derive(Debug)]
struct Turn<T> {
    user: User,
    /// Its part that is still to be served; below 0 a debt.
    credit: i64,
    items: VecDeque<T>,
}

impl<T> Turn<T> {
    fn waits(&self) -> bool {
        !self.items.is_empty()
    }
}

impl<T> Default for FairQueue<T> {
    fn default() -> Self {
        Self { turns: VecDeque::new() }
    }
}

impl<T> FairQueue<T> {
    /// True if nobody waits.
    pub fn is_empty(&self) -> bool {
        self.turns.is_empty()
    }

    /// Adds an item behind the user's others. The user's weight is this one's from now on.
    pub fn push(&mut self, user: User, item: T) {
        match self.turns.iter_mut().find(|turn| turn.user.id == user.id) {
            Some(turn) => {
                turn.user = user;
                turn.items.push_back(item);
            }
            None => {
                let items = VecDeque::from([item]);
                self.turns.push_back(Turn { user, credit: credit_of(user), items });
            }
        }
    }

    /// Serves the item that is next, or a part of it; `serve` says how much. If it cannot now, it
    /// returns none, and so does this, with all as it was; also if nobody waits.
    pub fn serve(&mut self, serve: impl FnOnce(&mut T) -> Option<Served>) -> Option<Served> {
        self.pass_turns();
        let turn = self.turns.front_mut()?;
        let served = serve(turn.items.front_mut()?)?;
        turn.credit -= served.cost.min(MAX_COST) as i64;
        if served.is_over {
            turn.items.pop_front();
            self.forget_idle();
        }
        Some(served)
    }

    /// Takes all items out, in no order.
    pub fn drain(&mut self) -> impl Iterator<Item = T> + '_ {
        self.turns.drain(..).flat_map(|turn| turn.items)
    }

    /// Lets those go by who have no credit. Everybody gets at once the credit of as many rounds as
    /// it takes until somebody who waits has some.
    fn pass_turns(&mut self) {
        let waiting = || self.turns.iter().filter(|turn| turn.waits());
        if waiting().all(|turn| turn.credit <= 0) {
            let rounds = |turn: &Turn<T>| (-turn.credit) / credit_of(turn.user) + 1;
            let rounds = waiting().map(rounds).min().unwrap_or(0);
            for turn in &mut self.turns {
                turn.credit += rounds * credit_of(turn.user);
            }
            self.forget_idle();
        }
        let is_next = |turn: &Turn<T>| turn.waits() && turn.credit > 0;
        if let Some(next) = self.turns.iter().position(is_next) {
            self.turns.rotate_left(next);
        }
    }

    /// One that has nothing waiting saves no credit. Its debt it has to pay, or it would get ahead
    /// of others by never having two items wait; while nobody waits, debts are void.
    fn forget_idle(&mut self) {
        if self.turns.iter().any(Turn::waits) {
            self.turns.retain(|turn| turn.waits() || turn.credit <= 0);
        } else {
            self.turns.clear();
        }
    }
}

fn credit_of(user: User) -> i64 {
    i64::from(user.weight.max(1)) * CREDIT_PER_WEIGHT
}

#[cfg(test)]
mod tests {
    use super::*;
    use alloc::vec;
    use alloc::vec::Vec;
    use proptest::prelude::*;

    fn user(id: u32, weight: u32) -> User {
        User { id, weight }
    }

    /// Takes one item whole.
    fn take(queue: &mut FairQueue<u64>, cost: u64) -> Option<u64> {
        let mut taken = None;
        queue.serve(|&mut item| {
            taken = Some(item);
            Some(Served { cost, is_over: true })
        })?;
        taken
    }

    #[test]
    fn one_user_is_served_in_its_order_whatever_it_costs() {
        let mut queue = FairQueue::default();
        (0..5).for_each(|item| queue.push(user(1, 1), item));
        let taken: Vec<u64> = (0..5).map_while(|_| take(&mut queue, 1 << 40)).collect();
        assert_eq!((taken, queue.is_empty()), (vec![0, 1, 2, 3, 4], true));
        assert_eq!(take(&mut queue, 1), None);
    }

    #[test]
    fn one_that_cannot_be_served_stays_where_it_is() {
        let mut queue = FairQueue::default();
        queue.push(user(1, 256), 7);
        assert_eq!(queue.serve(|_| None), None);
        assert_eq!(
            queue.serve(|_| Some(Served { cost: 1, is_over: false })).map(|s| s.cost),
            Some(1)
        );
        assert_eq!(take(&mut queue, 1), Some(7));
    }

    #[test]
    fn a_user_that_comes_later_waits_for_no_debts_of_others() {
        let mut queue = FairQueue::default();
        (0..100).for_each(|item| queue.push(user(1, 256), item));
        (0..50).for_each(|_| _ = take(&mut queue, 1 << 20));
        queue.push(user(2, 256), 1000);
        assert_eq!(take(&mut queue, 1 << 20), Some(1000));
    }

    #[test]
    fn a_user_that_never_has_two_waiting_gets_no_more_than_its_part() {
        let mut queue = FairQueue::default();
        (0..2000).for_each(|item| queue.push(user(1, 256), item));
        let mut served = [0; 2];
        for _ in 0..1000 {
            if !queue.turns.iter().any(|turn| turn.user.id == 2 && turn.waits()) {
                queue.push(user(2, 256), 5000);
            }
            served[usize::from(take(&mut queue, 1 << 17) == Some(5000))] += 1;
        }
        assert!((450..550).contains(&served[1]), "{served:?}");
    }

    proptest! {
        /// Of users that always wait each gets its part by its weight, within 10 %, once all have
        /// had a few turns; no matter how large their requests are.
        #[test]
        fn shares_are_by_weight(
            users in proptest::collection::vec((64_u32..1024, 1_u64..256), 2..6),
        ) {
            let mut queue = FairQueue::default();
            for (id, &(weight, _)) in (0..).zip(&users) {
                queue.push(user(id, weight), id);
            }
            let mut served = vec![0_u64; users.len()];
            let largest = users.iter().map(|&(_, kib)| kib << 10).max().unwrap_or(0);
            let mut total = 0;
            // Enough that what one is ahead at the most, a request and a turn, is little.
            while total < 2000 * largest.max(1 << 16) {
                let mut next = 0;
                queue.serve(|&mut id| {
                    next = id as usize;
                    Some(Served { cost: users[next].1 << 10, is_over: false })
                });
                served[next] += users[next].1 << 10;
                total += users[next].1 << 10;
            }
            let weights: u32 = users.iter().map(|&(weight, _)| weight).sum();
            for (bytes, (weight, _)) in served.iter().zip(&users) {
                let due = total as f64 * f64::from(*weight) / f64::from(weights);
                prop_assert!((*bytes as f64 - due).abs() < due / 10.0, "{served:?} {users:?}");
            }
        }

        /// Nothing is lost, and nobody's items change their order, whoever comes and goes.
        #[test]
        fn all_come_out_in_their_users_order(
            steps in proptest::collection::vec((0_u32..4, 1_u32..1000, 0_u64..1 << 22), 0..300),
        ) {
            let mut queue = FairQueue::default();
            let mut next_in = [0_u64; 4];
            let mut next_out = [0_u64; 4];
            let mut check = |item: u64| {
                let (user, number) = ((item >> 32) as usize, item & 0xffff_ffff);
                assert_eq!(number, next_out[user]);
                next_out[user] += 1;
            };
            for (id, weight, cost) in steps {
                queue.push(user(id, weight), u64::from(id) << 32 | next_in[id as usize]);
                next_in[id as usize] += 1;
                if cost % 3 == 0 {
                    take(&mut queue, cost).into_iter().for_each(&mut check);
                }
            }
            while let Some(item) = take(&mut queue, 4096) {
                check(item);
            }
            prop_assert_eq!(next_in, next_out);
        }
    }
}
