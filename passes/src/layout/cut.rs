// SPDX-License-Identifier: Apache-2.0 OR MIT
//! The cheapest way to give each of many things one of two labels, when neighbors with different labels cost: a minimum cut.

/// A network between a source and a sink; capacities are costs.
#[derive(Default)]
pub(super) struct Network {
    edges: Vec<Edge>,
    from: Vec<Vec<usize>>,
}

struct Edge {
    to: usize,
    room: u64,
}

/// An edge that is never cut.
pub(super) const FIXED: u64 = u64::MAX / 4;

impl Network {
    /// Adds a node.
    pub(super) fn node(&mut self) -> usize {
        self.from.push(Vec::new());
        self.from.len() - 1
    }

    /// Says that `a` on the source's side and `b` on the sink's cost that much.
    pub(super) fn edge(&mut self, a: usize, b: usize, cost: u64) {
        for (x, to, room) in [(a, b, cost), (b, a, 0)] {
            self.from[x].push(self.edges.len());
            self.edges.push(Edge { to, room });
        }
    }

    /// Which nodes are on the source's side of the cheapest cut; of equal cuts, the one with the fewest.
    pub(super) fn cut(mut self, source: usize, sink: usize) -> Vec<bool> {
        loop {
            let level = self.levels(source);
            if level[sink].is_none() {
                return level.iter().map(Option::is_some).collect();
            }
            let mut next = vec![0; self.from.len()];
            while self.push(source, sink, &level, &mut next) {}
        }
    }

    /// Distance of each node from the source, over edges with room.
    fn levels(&self, source: usize) -> Vec<Option<u32>> {
        let mut level = vec![None; self.from.len()];
        level[source] = Some(0);
        let mut queue = std::collections::VecDeque::from([source]);
        while let Some(x) = queue.pop_front() {
            for &e in &self.from[x] {
                let Edge { to, room } = self.edges[e];
                if room > 0 && level[to].is_none() {
                    level[to] = level[x].map(|l| l + 1);
                    queue.push_back(to);
                }
            }
        }
        level
    }

    /// Sends as much as one path takes; `next` remembers which edges of a node lead nowhere.
    fn push(&mut self, source: usize, sink: usize, level: &[Option<u32>], next: &mut [usize]) -> bool {
        let mut path: Vec<usize> = Vec::new();
        let mut at = source;
        while at != sink {
            let step = self.from[at].get(next[at]).copied();
            match step {
                Some(e) if self.edges[e].room > 0 && level[self.edges[e].to] == level[at].map(|l| l + 1) => {
                    path.push(e);
                    at = self.edges[e].to;
                }
                Some(_) => next[at] += 1,
                None => match path.pop() {
                    Some(e) => {
                        at = self.edges[e ^ 1].to;
                        next[at] += 1;
                    }
                    None => return false,
                },
            }
        }
        let flow = path.iter().map(|&e| self.edges[e].room).min().unwrap_or(0);
        for e in path {
            self.edges[e].room -= flow;
            self.edges[e ^ 1].room += flow;
        }
        flow > 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cheapest_side_of_each() {
        // s -3-> a -1-> b -2-> t, and s -1-> b: b goes with the sink, a with the source.
        let mut n = Network::default();
        let [s, t, a, b] = [n.node(), n.node(), n.node(), n.node()];
        n.edge(s, a, 3);
        n.edge(a, b, 1);
        n.edge(s, b, 1);
        n.edge(b, t, 2);
        assert_eq!(n.cut(s, t), [true, false, true, false]);
        // Nothing gained: everything stays on the sink's side.
        let mut n = Network::default();
        let [s, t, a] = [n.node(), n.node(), n.node()];
        n.edge(a, t, 5);
        n.edge(s, a, 5);
        assert_eq!(n.cut(s, t), [true, false, false]);
    }
}
