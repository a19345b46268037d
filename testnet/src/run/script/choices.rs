//! Which things there are, and which of them somebody wants.

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

/// One of `items`, the popular ones more often: the weight of the n-th of a content is 1/n^zipf.
pub(super) fn popular(
    contents: &[Content],
    all: &[Item],
    items: &[usize],
    dice: &mut Dice,
) -> Option<usize> {
    let mut ranks = vec![0_u32; contents.len()];
    let mut sum = 0.0;
    let mut weighed = Vec::with_capacity(items.len());
    for &item in items {
        let content = all[item].content;
        ranks[content] += 1;
        sum += f64::from(ranks[content]).powf(-contents[content].zipf);
        weighed.push((sum, item));
    }
    let drawn = dice.unit() * sum;
    let chosen = weighed.iter().find(|(upto, _)| drawn < *upto);
    chosen.or(weighed.last()).map(|&(_, item)| item)
}
