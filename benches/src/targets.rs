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
        let variant = costs.variant;
        let mut aim = |text: &str, measured: Option<f64>, bound: f64| {
            if let Some(measured) = measured {
                let text = format!("`{variant}`: {text} <= {bound}");
                targets.push(Target {
                    text,
                    measured,
                    bound,
                });
            }
        };
        let ratio = |of: &dyn Fn(&Costs) -> Option<f64>| Some(of(costs)? / of(bare)?);
        let more = |of: &dyn Fn(&Costs) -> Option<f64>| Some(of(costs)? - of(bare)?);
        let instructions = |workload| ratio(&|costs: &Costs| costs.of(workload).instructions);
        let calls = |workload| more(&|costs: &Costs| costs.of(workload).all_calls());

        // A call or an allocation that chance adds to one unit in twenty is none.
        aim(
            "system calls per connection over `bare`",
            calls(Workload::Connection),
            0.05,
        );
        aim(
            "system calls per echo over `bare`",
            calls(Workload::Echo),
            0.05,
        );
        aim(
            "instructions per echo, ratio",
            instructions(Workload::Echo),
            1.10,
        );
        let timer = find(Variant::BareTimer);
        let of = |costs: &Costs| costs.of(Workload::Echo).instructions;
        aim(
            "instructions per echo, ratio to `bare+timer`",
            timer.and_then(|timer| Some(of(costs)? / of(timer)?)),
            1.10,
        );
        aim(
            "instructions per echo of 16 connections, ratio",
            instructions(Workload::EchoOf16),
            1.06,
        );
        aim(
            "instructions per connection, ratio",
            instructions(Workload::Connection),
            1.165,
        );
        aim(
            "allocations per connection over `bare`",
            more(&|costs| Some(costs.of(Workload::Connection).heap?.allocations)),
            5.05,
        );
        aim("bytes per idle connection", costs.idle, 1600.0);
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
        let mut aim = |text: &str, measured: Option<f64>, bound: f64| {
            let text = format!("`{}`: {text} `{}` <= {bound}", ours.variant, theirs.variant);
            targets.extend(measured.map(|measured| Target {
                text,
                measured,
                bound,
            }));
        };
        let [ours, theirs] = [ours, theirs].map(|costs| costs.of(Workload::Echo));
        aim(
            "instructions per request, ratio to",
            ours.instructions
                .zip(theirs.instructions)
                .map(|(ours, theirs)| ours / theirs),
            1.03,
        );
        aim(
            "system calls per request over",
            ours.all_calls()
                .zip(theirs.all_calls())
                .map(|(ours, theirs)| ours - theirs),
            0.05,
        );
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
