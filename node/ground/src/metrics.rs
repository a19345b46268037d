//! The numbers of a node in the format that collectors read: OpenMetrics text.
//!
//! [`Numbers`] is filled anew for every scrape from the counters that the parts keep anyway; it
//! owns none itself. Names are full (`shoal_…`, or the customary `process_…`) and carry their unit;
//! the `_total` of a counter is added on the way out.

use std::fmt;

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, MetricEncoder, NoLabelSet, text},
    metrics::MetricType,
    registry::Registry,
};

/// All numbers of one scrape, in the order in which they are told.
#[derive(Debug, Default)]
pub struct Numbers {
    families: Vec<Family>,
}

/// Numbers of one name, told apart by labels.
#[derive(Debug)]
struct Family {
    name: &'static str,
    help: &'static str,
    kind: MetricType,
    samples: Vec<Sample>,
}

/// A value, and the label that tells it apart.
type Sample = (Option<(&'static str, String)>, u64);

impl Numbers {
    /// What only grows while the process runs.
    pub fn counter(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.add(name, help, MetricType::Counter, vec![(None, value)]);
    }

    /// What goes up and down.
    pub fn gauge(&mut self, name: &'static str, help: &'static str, value: u64) {
        self.add(name, help, MetricType::Gauge, vec![(None, value)]);
    }

    /// Counters of one name, told apart by `label`.
    pub fn counters<L: Into<String>>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) {
        let samples = labelled(label, values);
        self.add(name, help, MetricType::Counter, samples);
    }

    /// Gauges of one name, told apart by `label`.
    pub fn gauges<L: Into<String>>(
        &mut self,
        name: &'static str,
        help: &'static str,
        label: &'static str,
        values: impl IntoIterator<Item = (L, u64)>,
    ) {
        let samples = labelled(label, values);
        self.add(name, help, MetricType::Gauge, samples);
    }

    fn add(
        &mut self,
        name: &'static str,
        help: &'static str,
        kind: MetricType,
        samples: Vec<Sample>,
    ) {
        self.families.push(Family {
            name,
            help,
            kind,
            samples,
        });
    }

    /// The text of all of them.
    ///
    /// # Errors
    /// When a number cannot be written, which takes a mistake in this program.
    pub fn encode(self) -> Result<String, fmt::Error> {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(self));
        let mut text = String::new();
        text::encode(&mut text, &registry)?;
        Ok(text)
    }
}

fn labelled<L: Into<String>>(
    label: &'static str,
    values: impl IntoIterator<Item = (L, u64)>,
) -> Vec<Sample> {
    values
        .into_iter()
        .map(|(of, value)| (Some((label, of.into())), value))
        .collect()
}

impl Collector for Numbers {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        for family in &self.families {
            let (name, help) = (family.name, family.help);
            let mut family_encoder = encoder.encode_descriptor(name, help, None, family.kind)?;
            for (label, value) in &family.samples {
                match label {
                    Some(label) => {
                        let label = [label.clone()];
                        encode(
                            family.kind,
                            *value,
                            &mut family_encoder.encode_family(&label)?,
                        )?;
                    }
                    None => encode(family.kind, *value, &mut family_encoder)?,
                }
            }
        }
        Ok(())
    }
}

fn encode(kind: MetricType, value: u64, sample: &mut MetricEncoder<'_>) -> fmt::Result {
    match kind {
        MetricType::Counter => sample.encode_counter::<NoLabelSet, _, u64>(&value, None),
        // The format has signed gauges only.
        _ => sample.encode_gauge(&i64::try_from(value).unwrap_or(i64::MAX)),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use super::*;

    #[test]
    fn the_text_is_what_collectors_read() {
        let mut numbers = Numbers::default();
        numbers.counter("shoal_things", "Things.", 7);
        numbers.gauge("shoal_room_bytes", "Room.", u64::MAX);
        let classes = [("a\"b", 1), ("c", 2)];
        numbers.counters("shoal_bytes", "Bytes.", "class", classes);
        let expected = "\
            # HELP shoal_things Things.\n\
            # TYPE shoal_things counter\n\
            shoal_things_total 7\n\
            # HELP shoal_room_bytes Room.\n\
            # TYPE shoal_room_bytes gauge\n\
            shoal_room_bytes 9223372036854775807\n\
            # HELP shoal_bytes Bytes.\n\
            # TYPE shoal_bytes counter\n\
            shoal_bytes_total{class=\"a\\\"b\"} 1\n\
            shoal_bytes_total{class=\"c\"} 2\n\
            # EOF\n";
        assert_eq!(numbers.encode().unwrap(), expected);
    }
}
