//! What is aimed at.

use super::{Costs, Variant, load::Workload};

/// An upper bound, and what was measured.
#[derive(Debug)]
pub(crate) struct Target {
    pub(crate) text: String,
    pub(crate) measured: f64,
    bound: f64,
}

impl Target {
    pub(crate) fn is_met(&self) -> bool {
        self.measured <= self.bound
    }
}

/// The targets that `costs` say something about.
pub(crate) fn targets(costs: &[Costs]) -> Vec<Target> {
    let mut targets = of_stacks(costs);
    targets.extend(of_http(costs));
    targets
}

fn of_stacks(costs: &[Costs]) -> Vec<Target> {
    let find = |variant| costs.iter().find(|costs| costs.variant == variant);
    let Some(bare) = find(Variant::Bare) else {
        return Vec::new();
    };
    let mut targets = Vec::new();
    for costs in [Variant::Stack, Variant::StackPlus]
        .into_iter()
        .filter_map(find)
    {
        let ratio = |to: &Costs, workload| {
            let of = |costs: &Costs| costs.of(workload).instructions;
            Some(of(costs)? / of(to)?)
        };
        let more_calls = |workload| {
            let of = |costs: &Costs| costs.of(workload).all_calls();
            Some(of(costs)? - of(bare)?)
        };
        let allocations = |costs: &Costs| Some(costs.of(Workload::Connection).heap?.allocations);
        let to_timer = find(Variant::BareTimer).and_then(|timer| ratio(timer, Workload::Echo));
        let more_allocations = allocations(costs).zip(allocations(bare));
        // Less than one call or allocation in twenty units is noise.
        let aims = [
            (
                "system calls per connection over `bare`",
                more_calls(Workload::Connection),
                0.05,
            ),
            (
                "system calls per echo over `bare`",
                more_calls(Workload::Echo),
                0.05,
            ),
            (
                "instructions per echo, ratio",
                ratio(bare, Workload::Echo),
                1.10,
            ),
            (
                "instructions per echo, ratio to `bare+timer`",
                to_timer,
                1.10,
            ),
            (
                "instructions per echo of 16 connections, ratio",
                ratio(bare, Workload::EchoOf16),
                1.06,
            ),
            (
                "instructions per connection, ratio",
                ratio(bare, Workload::Connection),
                1.165,
            ),
            (
                "allocations per connection over `bare`",
                more_allocations.map(|(a, b)| a - b),
                5.05,
            ),
            ("bytes per idle connection", costs.idle, 1600.0),
        ];
        targets.extend(aims.into_iter().filter_map(|(text, measured, bound)| {
            let text = format!("`{}`: {text} <= {bound}", costs.variant);
            measured.map(|measured| Target {
                text,
                measured,
                bound,
            })
        }));
    }
    targets
}

fn of_http(costs: &[Costs]) -> Vec<Target> {
    let find = |variant| costs.iter().find(|costs| costs.variant == variant);
    let Some(ours) = find(Variant::HttpPortcullis) else {
        return Vec::new();
    };
    let mut targets = Vec::new();
    for theirs in [Variant::HttpHyper, Variant::HttpHyperPlus]
        .into_iter()
        .filter_map(find)
    {
        let [our, their] = [ours, theirs].map(|costs| costs.of(Workload::Echo));
        let instructions = our.instructions.zip(their.instructions);
        let calls = our.all_calls().zip(their.all_calls());
        let aims = [
            (
                "instructions per request, ratio to",
                instructions.map(|(our, their)| our / their),
                1.03,
            ),
            (
                "system calls per request over",
                calls.map(|(our, their)| our - their),
                0.05,
            ),
        ];
        targets.extend(aims.into_iter().filter_map(|(text, measured, bound)| {
            let text = format!("`{}`: {text} `{}` <= {bound}", ours.variant, theirs.variant);
            measured.map(|measured| Target {
                text,
                measured,
                bound,
            })
        }));
    }
    targets.extend(ours.silent.map(|measured| Target {
        text: format!(
            "`{}`: bytes per connection before its first request <= 3000",
            ours.variant
        ),
        measured,
        bound: 3000.0,
    }));
    targets
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_target_is_missed_above_its_bound() {
        let measured = |variant, instructions| {
            let mut costs = Costs::new(variant);
            costs.of_mut(Workload::Echo).instructions = Some(instructions);
            costs
        };
        let verdict = |stack| {
            let costs = [
                measured(Variant::Bare, 1000.0),
                measured(Variant::Stack, stack),
            ];
            targets(&costs).iter().all(Target::is_met)
        };
        assert!(verdict(1100.0));
        assert!(!verdict(1101.0));
    }

    #[test]
    fn http_is_held_against_each_way_to_set_hyper_up() {
        let measured = |variant, instructions| {
            let mut costs = Costs::new(variant);
            costs.of_mut(Workload::Echo).instructions = Some(instructions);
            costs
        };
        let costs = [
            measured(Variant::HttpHyper, 1000.0),
            measured(Variant::HttpHyperPlus, 1100.0),
            measured(Variant::HttpPortcullis, 1100.0),
        ];
        let met: Vec<_> = targets(&costs).iter().map(Target::is_met).collect();
        assert_eq!(met, [false, true]);
    }
}
