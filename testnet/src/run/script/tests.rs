#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;

use super::*;
use crate::scenario::{Overrides, SHIPPED};

fn draw(text: &str, seed: u64) -> Script {
    let overrides = Overrides {
        seed: Some(seed),
        ..Overrides::default()
    };
    let scenario = Scenario::read("test.toml", text, &overrides).unwrap();
    Script::draw(&scenario).unwrap()
}

#[test]
fn a_seed_decides_everything_and_another_decides_otherwise() {
    for shipped in SHIPPED {
        let text = draw(shipped.text, 1).to_string();
        assert_eq!(text, draw(shipped.text, 1).to_string(), "{}", shipped.name);
    }
    let churn = |seed| draw(SHIPPED[4].text, seed).to_string();
    assert_ne!(churn(1), churn(2));
}

#[test]
fn what_one_event_chooses_does_not_change_with_the_others() {
    let one = "nodes = 20\n[[event]]\ndo = \"kill\"\nat = \"9s\"\nnodes = \"random:5\"\n";
    let more = format!("{one}[[event]]\ndo = \"lookup\"\nat = \"2s\"\ncount = 50\n");
    let killed = |script: &Script| -> Vec<Action> {
        let actions = script.steps.iter().map(|step| step.action.clone());
        actions
            .filter(|it| matches!(it, Action::Kill { .. }))
            .collect()
    };
    let (few, many) = (draw(one, 3), draw(&more, 3));
    assert_eq!(killed(&few).len(), 5);
    assert_eq!(killed(&few), killed(&many));
}

#[test]
fn the_popular_is_wanted_more() {
    let text = "nodes = 201\nlimit = \"1h\"\n[[content]]\nname = \"book\"\nsize = \"1KiB\"\n\
                count = 20\nzipf = 1.1\n\
                [[event]]\ndo = \"fetch\"\ncount = 1";
    let script = draw(text, 5);
    let mut wanted: BTreeMap<usize, usize> = BTreeMap::new();
    for step in &script.steps {
        if let Action::Fetch { item, .. } = step.action {
            *wanted.entry(item).or_default() += 1;
        }
    }
    let all: usize = wanted.values().sum();
    assert_eq!(all, 200, "each but the owner wants one");
    // 28% of 200 by the law; 56 with a deviation of 6.
    assert!((32..80).contains(&wanted[&0]), "{wanted:?}");
    assert!(
        wanted[&0] > 2 * wanted.get(&9).copied().unwrap_or(0),
        "{wanted:?}"
    );
}

#[test]
fn what_is_popular_may_change() {
    let text = "nodes = 201\nlimit = \"1h\"\n[[content]]\nname = \"book\"\nsize = \"1KiB\"\n\
                count = 20\nzipf = 1.1\nchanges = \"10s\"\n[[content]]\nname = \"other\"\n[[event]]\n\
                do = \"fetch\"\ncontent = \"book\"\ncount = 1\nevery = \"10s\"\nuntil = \"20s\"";
    let most_wanted = |seed| {
        let script = draw(text, seed);
        [0, 10].map(|at| {
            let mut wanted = vec![0; script.items.len()];
            for step in script.steps.iter().filter(|it| it.at.as_secs() == at) {
                if let Action::Fetch { item, .. } = step.action {
                    wanted[item] += 1;
                }
            }
            (0..wanted.len()).max_by_key(|item| wanted[*item]).unwrap()
        })
    };
    let seeds = 0..4;
    let wanted: Vec<_> = seeds.map(most_wanted).collect();
    assert!(wanted.iter().all(|[before, _]| *before == 0), "{wanted:?}");
    assert!(wanted.iter().any(|[_, after]| *after != 0), "{wanted:?}");
    assert!(wanted.iter().any(|it| it[1] != wanted[0][1]), "{wanted:?}");
}

#[test]
fn churn_replaces_so_many_and_the_new_ones_want_the_same() {
    let text = "nodes = 11\nlimit = \"5m\"\n[[event]]\ndo = \"fetch\"\n[[event]]\ndo = \"churn\"\n\
                nodes = \"1-10\"\nrate = \"20%\"\nevery = \"1m\"\nuntil = \"2m\"\naway = \"3s\"";
    let script = draw(text, 8);
    let steps = |is: fn(&Action) -> bool| {
        let steps = script.steps.iter().filter(|step| is(&step.action));
        steps
            .map(|step| (step.at.as_secs(), step.action.clone()))
            .collect::<Vec<_>>()
    };
    let kills = steps(|it| matches!(it, Action::Kill { .. }));
    let times: Vec<_> = kills.iter().map(|it| it.0).collect();
    assert_eq!(
        times,
        [15, 45, 75, 105],
        "two in each minute, spread evenly"
    );
    for (at, action) in kills {
        let Action::Kill { node } = action else {
            unreachable!()
        };
        let later: Vec<_> = script
            .steps
            .iter()
            .filter(|step| step.at.as_secs() == at + 3)
            .collect();
        let expected = [
            Action::Start { node, fresh: true },
            Action::Fetch { node, item: 0 },
        ];
        let actions: Vec<_> = later.iter().map(|step| step.action.clone()).collect();
        assert_eq!(actions, expected);
    }
}

#[test]
fn links_change_and_come_back() {
    let text = "nodes = 4\n[[group]]\nname = \"a\"\nlink = \"home\"\n\
                [[event]]\ndo = \"partition\"\nat = \"5s\"\nnodes = \"0-1\"\nuntil = \"9s\"\n[[event]]\ndo = \"degrade\"\n\
                at = \"6s\"\nnodes = \"3\"\nlink = \"slow\"\nuntil = \"8s\"";
    let script = draw(text, 1);
    let start = script.network.clone().unwrap();
    let plans: Vec<(u64, Plan)> = script
        .steps
        .iter()
        .filter_map(|step| match &step.action {
            Action::Links { plan, .. } => Some((step.at.as_secs(), (**plan).clone())),
            _ => None,
        })
        .collect();
    let state: Vec<_> = plans
        .iter()
        .map(|(at, plan)| {
            let slow = plan.nodes[3] != start.nodes[3];
            (
                *at,
                plan.version,
                plan.link(0, Some(2)).blocked,
                plan.link(0, Some(1)).blocked,
                slow,
            )
        })
        .collect();
    let expected = [
        (5, 2, true, false, false),
        (6, 3, true, false, true),
        (8, 4, true, false, false),
        (9, 5, false, false, false),
    ];
    assert_eq!(state, expected);
    assert_eq!(
        (plans[3].1.nodes.clone(), plans[3].1.rules.clone()),
        (start.nodes, start.rules)
    );
    assert_eq!(
        draw("nodes = 2", 1).network,
        None,
        "without a word, links are what they are"
    );
}
