//! Which things there are, and which of them somebody wants.

use std::time::Duration;

use crate::{
    dice::Dice,
    run::script::Item,
    scenario::{Content, Scenario, ScenarioError},
};

/// Everything there is to share, with its size and owner.
pub(super) fn items(scenario: &Scenario) -> Result<Vec<Item>, ScenarioError> {
    let mut items = Vec::new();
    for (index, content) in scenario.contents.iter().enumerate() {
        let mut dice = Dice::new(scenario.seed, &format!("content {}", content.name));
        let owners = owners(scenario, content, &mut dice)?;
        for number in 0..content.count {
            let sizes = &content.sizes[dice.index(content.sizes.len())];
            items.push(Item {
                name: match content.count {
                    1 => content.name.clone(),
                    _ => format!("{}-{number:02}", content.name),
                },
                content: index,
                owner: owners[number % owners.len()],
                bytes: dice.within(sizes),
                files: content.files,
            });
        }
    }
    Ok(items)
}

/// Who has a content: at least one, and nobody who does wrong.
fn owners(
    scenario: &Scenario,
    content: &Content,
    dice: &mut Dice,
) -> Result<Vec<usize>, ScenarioError> {
    let members = &scenario.members;
    let Some(owner) = &content.owner else {
        return match members.honest() {
            0 => Err(content
                .place
                .error("there is no node that could share this")),
            _ => Ok(vec![0]),
        };
    };
    let honest = |node| !members.is_evil(node);
    let owners = owner.value.resolve(members, &honest, dice);
    let owners = owners.map_err(|why| owner.place.error(why))?;
    match owners.iter().all(|&node| honest(node)) && !owners.is_empty() {
        true => Ok(owners),
        false => Err(owner
            .place
            .error("an owner is an ordinary node, and there is at least one")),
    }
}

/// The place of each item in the order of their popularity at a time; of two contents, the items of the
/// first come first.
pub(super) fn places(scenario: &Scenario, items: &[Item], at: Duration) -> Vec<usize> {
    let mut places: Vec<usize> = (0..items.len()).collect();
    let mut rest = places.as_mut_slice();
    for content in &scenario.contents {
        let (of_content, others) = rest.split_at_mut(content.count.min(rest.len()));
        if content.changes.is_some_and(|changes| changes <= at) {
            let name = format!("changes of {}", content.name);
            Dice::new(scenario.seed, &name).shuffle(of_content);
        }
        rest = others;
    }
    places
}

/// One of `items`, the popular ones more often: the weight of the n-th of a content is 1/n^zipf, in the
/// order of their `places`.
pub(super) fn popular(
    contents: &[Content],
    (all, places): (&[Item], &[usize]),
    items: &[usize],
    dice: &mut Dice,
) -> Option<usize> {
    let mut items = items.to_vec();
    items.sort_by_key(|&item| places[item]);
    let mut ranks = vec![0_u32; contents.len()];
    let mut sum = 0.0;
    let mut weighed = Vec::with_capacity(items.len());
    for item in items {
        let content = all[item].content;
        ranks[content] += 1;
        sum += f64::from(ranks[content]).powf(-contents[content].zipf);
        weighed.push((sum, item));
    }
    let drawn = dice.unit() * sum;
    let chosen = weighed.iter().find(|(upto, _)| drawn < *upto);
    chosen.or(weighed.last()).map(|&(_, item)| item)
}
