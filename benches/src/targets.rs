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
}
