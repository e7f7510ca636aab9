//! The targets.

use super::{Costs, Protocol, Variant, load::Workload};

/// An upper bound, and the measured value.
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

/// The targets for which `costs` has a value.
pub(crate) fn targets(costs: &[Costs]) -> Vec<Target> {
    let find = |variant| costs.iter().find(|costs| costs.variant == variant);
    let mut targets = Vec::new();
    let mut aim = |text: String, measured: Option<f64>, bound| {
        let text = format!("{text} <= {bound}");
        targets.extend(measured.map(|measured| Target {
            text,
            measured,
            bound,
        }));
    };
    for ours in [Variant::Stack, Variant::StackPlus] {
        for (floor, workload, bound) in RATIOS {
            aim_at_ratio(&mut aim, find(ours).zip(find(floor)), workload, bound);
        }
        for workload in [Workload::Connection, Workload::Echo] {
            aim_at_calls(&mut aim, find(ours).zip(find(Variant::Bare)), workload);
        }
        let allocations = |costs: &Costs| Some(costs.of(Workload::Connection).heap?.allocations);
        let [our, bare] = [ours, Variant::Bare].map(|variant| find(variant).and_then(allocations));
        let text = format!("`{ours}`: allocations per connection over `bare`");
        aim(text, our.zip(bare).map(|(our, bare)| our - bare), 5.05);
        let text = format!("`{ours}`: bytes per idle connection");
        aim(text, find(ours).and_then(|costs| costs.idle), 1600.0);
    }
    for &workload in Workload::of(Protocol::Tls) {
        let pair = find(Variant::TlsRecommended).zip(find(Variant::TlsBare));
        aim_at_ratio(&mut aim, pair, workload, 1.10);
    }
    let [ours, bare] = [Variant::TlsRecommended, Variant::TlsBare]
        .map(|variant| find(variant).and_then(|costs| costs.idle));
    let text = format!(
        "`{}`: bytes per idle connection, ratio to `{}`",
        Variant::TlsRecommended,
        Variant::TlsBare
    );
    aim(text, ours.zip(bare).map(|(ours, bare)| ours / bare), 1.10);
    for (ours, floor) in HTTP {
        aim_at_ratio(&mut aim, find(ours).zip(find(floor)), Workload::Echo, 1.03);
        aim_at_calls(&mut aim, find(ours).zip(find(floor)), Workload::Echo);
    }
    let ours = Variant::HttpPortcullis;
    let text = format!("`{ours}`: bytes per connection before its first request");
    aim(text, find(ours).and_then(|costs| costs.silent), 3000.0);
    let (ours, floor) = (Variant::ForwardStack, Variant::ForwardBare);
    aim_at_ratio(&mut aim, find(ours).zip(find(floor)), Workload::Echo, 1.05);
    for (workload, bound) in FORWARD_CALLS {
        let Some(costs) = find(ours) else { continue };
        let text = format!("`{ours}`: system calls per {}", unit(costs, workload));
        aim(text, costs.of(workload).all_calls(), bound);
    }
    let text = format!("`{ours}`: bytes per idle connection");
    aim(text, find(ours).and_then(|costs| costs.idle), 2100.0);
    let (ours, floor) = (Variant::ProgramAdmin, Variant::Program);
    for (workload, bound) in ADMIN {
        let Some((ours, floor)) = find(ours).zip(find(floor)) else {
            continue;
        };
        let [our, their] = [ours, floor].map(|costs| costs.of(workload).instructions);
        let unit = unit(ours, workload);
        let text = format!(
            "`{}`: instructions per {unit} over `{}`",
            ours.variant, floor.variant
        );
        aim(text, our.zip(their).map(|(our, their)| our - their), bound);
    }
    targets
}

fn aim_at_ratio(
    aim: &mut impl FnMut(String, Option<f64>, f64),
    pair: Option<(&Costs, &Costs)>,
    workload: Workload,
    bound: f64,
) {
    let Some((ours, floor)) = pair else { return };
    let [our, their] = [ours, floor].map(|costs| costs.of(workload).instructions);
    let text = format!(
        "`{}`: instructions per {}, ratio to `{}`",
        ours.variant,
        unit(ours, workload),
        floor.variant
    );
    aim(text, our.zip(their).map(|(our, their)| our / their), bound);
}

fn aim_at_calls(
    aim: &mut impl FnMut(String, Option<f64>, f64),
    pair: Option<(&Costs, &Costs)>,
    workload: Workload,
) {
    let Some((ours, floor)) = pair else { return };
    let [our, their] = [ours, floor].map(|costs| costs.of(workload).all_calls());
    let text = format!(
        "`{}`: system calls per {} over `{}`",
        ours.variant,
        unit(ours, workload),
        floor.variant
    );
    // Less than one call in twenty units is noise.
    aim(text, our.zip(their).map(|(our, their)| our - their), 0.05);
}

fn unit(costs: &Costs, workload: Workload) -> &'static str {
    match (costs.variant.protocol(), workload) {
        (Protocol::Http, Workload::Echo) => "request",
        (Protocol::Forward | Protocol::Program, Workload::Echo) => "round trip",
        (Protocol::Tls, Workload::Connection) => "full handshake",
        (Protocol::Tls, Workload::Resumed) => "resumed handshake",
        (Protocol::Tls, Workload::Echo) => "echo of 16 KiB",
        (_, Workload::EchoOf16) => "echo of 16 connections",
        (_, Workload::ToClient) => "MiB to the client",
        (_, Workload::ToBackend) => "MiB to the backend",
        (_, workload) => workload.name(),
    }
}

/// The most instructions of a stack of layers, as a ratio to one floor or another.
const RATIOS: [(Variant, Workload, f64); 7] = [
    (Variant::Bare, Workload::Connection, 1.165),
    (Variant::Bare, Workload::Echo, 1.10),
    (Variant::Bare, Workload::EchoOf16, 1.06),
    (Variant::BareTimer, Workload::Echo, 1.10),
    (Variant::BareTimeouts, Workload::Connection, 1.15),
    (Variant::BareTimeouts, Workload::Echo, 1.0),
    (Variant::BareTimeouts, Workload::EchoOf16, 1.0),
];

/// Servers of HTTP, and the floor of each.
const HTTP: [(Variant, Variant); 3] = [
    (Variant::HttpPortcullis, Variant::HttpHyper),
    (Variant::HttpPortcullis, Variant::HttpHyperPlus),
    (Variant::HttpStack, Variant::HttpHyperPlus),
];

/// The most system calls of a forwarder with the layers, of which less than one in twenty units is noise.
const FORWARD_CALLS: [(Workload, f64); 4] = [
    (Workload::Connection, 23.0),
    (Workload::Echo, 6.05),
    (Workload::ToClient, 20.0),
    (Workload::ToBackend, 20.0),
];

/// The most instructions that the admin interface adds. Its sampler takes some 12,000 each second, which are up to 100 per
/// round trip on a busy machine.
const ADMIN: [(Workload, f64); 2] = [(Workload::Connection, 1000.0), (Workload::Echo, 100.0)];

#[cfg(test)]
mod tests {
    use super::*;
    use harness::tool::strace::Calls;

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
    fn a_forwarder_is_held_to_its_system_calls_and_to_the_copy_in_the_reference() {
        let measured = |variant, instructions, calls| {
            let mut costs = Costs::new(variant);
            let echo = costs.of_mut(Workload::Echo);
            echo.instructions = Some(instructions);
            echo.calls = Some(Calls([("recvfrom".to_owned(), calls)].into()));
            costs
        };
        let costs = [
            measured(Variant::ForwardBare, 1000.0, 6.0),
            measured(Variant::ForwardStack, 1060.0, 6.0),
        ];
        let met: Vec<_> = targets(&costs).iter().map(Target::is_met).collect();
        assert_eq!(met, [false, true]);
        let costs = [measured(Variant::ForwardStack, 1060.0, 6.1)];
        let met: Vec<_> = targets(&costs).iter().map(Target::is_met).collect();
        assert_eq!(met, [false]);
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
