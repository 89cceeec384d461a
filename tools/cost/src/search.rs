//! The search: single blown-up parts of many samples first, then the dearest of them changed and mixed.

use std::time::{Duration, Instant};

use echostr::{
    catalog,
    payload::{self, Form},
};
use rand::{RngExt as _, rngs::StdRng, seq::SliceRandom as _};

use crate::{
    Failure,
    server::{Cost, Server},
    shape::{self, Base, CDATA_TEXTS, JSON_TEXTS, JSON_VALUES, Names, Part, Run, Shape, What, XML_TEXTS, XML_VALUES},
    targets::Target,
};

/// How many of the dearest shapes go on.
const MAX_SHAPES: usize = 12;

/// A shape dearer than this many ordinary texts is enough: looking for a still dearer one takes only time.
const ENOUGH: f64 = 200.0;

/// By how much the bodies are smaller with which the search begins.
const SMALL: usize = 8;

/// A shape that was measured.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) shape: Shape,
    pub(crate) cost: Cost,
    /// How many ordinary texts of the same size cost as much.
    pub(crate) ratio: f64,
    pub(crate) bytes: usize,
}

/// An ordinary text to an account, signed and encrypted.
pub(crate) struct Ordinary<'t> {
    target: &'t Target,
    base: Base,
    shape: Shape,
}

impl<'t> Ordinary<'t> {
    pub(crate) fn new(target: &'t Target) -> Result<Self, Failure> {
        const UNITS: [&str; 2] =
            ["Please bring the keys back by noon, thank you. ", "请在中午之前把钥匙还回来，谢谢。"];
        let (event, field) = target.ordinary;
        let base =
            bases(target)?.into_iter().find(|base| base.event == event).ok_or("no sample of an ordinary text")?;
        let node = base.nodes.iter().position(|node| node.name == field).ok_or("no field for the text")?;
        let runs = UNITS.map(|unit| Run { unit, share: 0.5, in_cdata: base.form == Form::Xml }).to_vec();
        let part = Part { node, what: What::Text(runs), share: 1.0, count: usize::MAX };
        Ok(Self { target, base, shape: Shape { base: 0, parts: vec![part] } })
    }

    pub(crate) fn request(&self, body: usize, serial: u64) -> (String, String) {
        let payload = shape::write(&self.base, &self.shape, self.target.room(body));
        self.target.request(payload, self.base.form, self.base.command.as_deref(), serial)
    }
}

pub(crate) struct Search<'s> {
    pub(crate) target: &'s Target,
    pub(crate) server: &'s mut Server,
    pub(crate) random: &'s mut StdRng,
    pub(crate) serial: &'s mut u64,
    /// Bytes of a body.
    pub(crate) body: usize,
    pub(crate) bases: Vec<Base>,
    pub(crate) ordinary: &'s Ordinary<'s>,
    pub(crate) tried: u64,
}

/// The samples whose bodies a target may be sent.
pub(crate) fn bases(target: &Target) -> Result<Vec<Base>, Failure> {
    let mut bases = Vec::new();
    if !target.trusted {
        for (form, text) in Target::ENVELOPES {
            bases.push(Base::new("an envelope", form, None, shape::owned(&payload::parse(form, text)?)));
        }
        return Ok(bases);
    }
    for platform in target.events {
        for entry in catalog::entries(*platform)? {
            for form in [Form::Xml, Form::Json] {
                let Some(text) = catalog::sample(&entry, form) else { continue };
                let tree = shape::owned(&payload::parse(form, text)?);
                bases.push(Base::new(&entry.id, form, entry.select.get("CallbackCommand").cloned(), tree));
            }
        }
    }
    Ok(bases)
}

/// Enters a shape among the dearest, of which one sample has two at most.
fn keep(best: &mut Vec<Found>, found: Found) {
    let at = best.partition_point(|other| other.cost.cpu > found.cost.cpu);
    let base = found.shape.base;
    best.insert(at, found);
    let mut same = 0;
    best.retain(|other| {
        same += usize::from(other.shape.base == base);
        other.shape.base != base || same <= 2
    });
    best.truncate(MAX_SHAPES);
}

fn is_enough(best: &[Found], ordinary: Duration) -> bool {
    best.first().is_some_and(|first| first.cost.cpu.as_secs_f64() > ENOUGH * ordinary.as_secs_f64())
}

impl Search<'_> {
    /// The CPU time of an ordinary text of the same size: the median of some.
    pub(crate) fn measure_ordinary(&mut self) -> Result<Duration, Failure> {
        const MEASUREMENTS: usize = 15;
        let mut costs = Vec::new();
        for _ in 0..MEASUREMENTS {
            costs.push(self.measure_one_ordinary()?);
        }
        costs.sort_unstable();
        Ok(costs[MEASUREMENTS / 2])
    }

    fn measure_one_ordinary(&mut self) -> Result<Duration, Failure> {
        *self.serial += 1;
        let (path, body) = self.ordinary.request(self.body, *self.serial);
        Ok(self.server.deliver(&path, &body)?.cpu)
    }

    pub(crate) fn measure(&mut self, shape: &Shape) -> Result<Found, Failure> {
        self.measure_in(shape, self.body)
    }

    fn measure_in(&mut self, shape: &Shape, body: usize) -> Result<Found, Failure> {
        let (path, body) = self.request_in(shape, body);
        let bytes = body.len();
        let cost = self.server.deliver(&path, &body)?;
        self.tried += 1;
        Ok(Found { shape: shape.clone(), cost, ratio: 0.0, bytes })
    }

    pub(crate) fn request(&mut self, shape: &Shape) -> (String, String) {
        self.request_in(shape, self.body)
    }

    fn request_in(&mut self, shape: &Shape, body: usize) -> (String, String) {
        let base = &self.bases[shape.base];
        let payload = shape::write(base, shape, self.target.room(body));
        *self.serial += 1;
        self.target.request(payload, base.form, base.command.as_deref(), *self.serial)
    }

    /// The dearest shapes that are found until then, the dearest first.
    pub(crate) fn run(&mut self, length: Duration, ordinary: Duration) -> Result<Vec<Found>, Failure> {
        let started = Instant::now();
        let mut best = Vec::new();
        // Small bodies are tried faster, and what is dear shows in them already.
        let mut small = Vec::new();
        let mut lists = self.lists();
        while started.elapsed() < length / 2 {
            // Every list of every event has its turn, if there is the time for it: much is done with lists.
            let list = if self.random.random_bool(0.5) { lists.pop() } else { None };
            let shape = list.unwrap_or_else(|| self.any());
            let found = self.measure_in(&shape, self.body / SMALL)?;
            keep(&mut small, found);
        }
        // As large as they may be, and with as many nodes as are taken, of which a unit may have several.
        for Found { mut shape, .. } in small {
            for count in [usize::MAX, 49_000, 24_000, 16_000, 9_000, 4_900] {
                shape.parts.iter_mut().for_each(|part| part.count = count);
                let found = self.measure(&shape)?;
                keep(&mut best, found);
                if is_enough(&best, ordinary) || started.elapsed() > length {
                    break;
                }
            }
        }
        while started.elapsed() < length && !is_enough(&best, ordinary) {
            let [one, other] = [(); 2].map(|()| best[self.random.random_range(0..best.len())].shape.clone());
            let shape = self.changed(one, &other);
            let found = self.measure(&shape)?;
            keep(&mut best, found);
        }
        best.iter_mut().for_each(|found| found.ratio = found.cost.cpu.as_secs_f64() / ordinary.as_secs_f64());
        // One measurement may have been disturbed, and the machine may have become slower meanwhile.
        for found in best.iter_mut().filter(|found| found.cost.cpu < Duration::from_secs(2)) {
            let (mut costs, mut ratios) = (Vec::new(), Vec::new());
            for _ in 0..5 {
                let text = self.measure_one_ordinary()?.as_secs_f64();
                let cost = self.measure(&found.shape)?.cost.cpu;
                costs.push(cost);
                ratios.push(cost.as_secs_f64() / text);
            }
            costs.sort_unstable();
            ratios.sort_by(f64::total_cmp);
            (found.cost.cpu, found.ratio) = (costs[2], ratios[2]);
        }
        best.sort_by(|one, other| other.ratio.total_cmp(&one.ratio));
        Ok(best)
    }

    fn pick<T: Copy>(&mut self, from: &[T]) -> T {
        from[self.random.random_range(0..from.len())]
    }

    /// Every object of a sample repeated, in an order of chance.
    fn lists(&mut self) -> Vec<Shape> {
        let mut shapes = Vec::new();
        for (base, sample) in self.bases.iter().enumerate() {
            for node in (1..sample.nodes.len()).filter(|node| sample.nodes[*node].is_object) {
                let what = What::Repeat { unique: true, small: true };
                shapes.push(Shape { base, parts: vec![Part { node, what, share: 1.0, count: usize::MAX }] });
            }
        }
        shapes.shuffle(self.random);
        shapes
    }

    /// One part of any sample.
    fn any(&mut self) -> Shape {
        let base = self.random.random_range(0..self.bases.len());
        Shape { base, parts: vec![self.part(base)] }
    }

    fn part(&mut self, base: usize) -> Part {
        let form = self.bases[base].form;
        let node = self.random.random_range(0..self.bases[base].nodes.len());
        let is_object = self.bases[base].nodes[node].is_object;
        let values = if form == Form::Xml { XML_VALUES } else { JSON_VALUES };
        let what = match self.random.random_range(0..6) {
            0 | 1 if node != 0 => What::Text(self.runs(form)),
            2 if node != 0 => What::Values(self.pick(values)),
            3 | 4 if node != 0 => {
                What::Repeat { unique: self.random.random_bool(0.5), small: self.random.random_bool(0.5) }
            }
            _ if is_object => What::Members(self.names(base), self.pick(values)),
            _ => return Part { node: 0, ..self.members(base, values) },
        };
        let (share, count) = (1.0, self.count());
        Part { node, what, share, count }
    }

    fn members(&mut self, base: usize, values: &[&'static str]) -> Part {
        let what = What::Members(self.names(base), self.pick(values));
        Part { node: 0, what, share: 1.0, count: self.count() }
    }

    /// Mostly as often as it fits; else a number of any magnitude, as more than some may be refused.
    fn count(&mut self) -> usize {
        const LIMITS: [usize; 6] = [49_000, 24_000, 16_000, 9_000, 4_900, 990];
        match self.random.random_range(0..3) {
            0 => usize::MAX,
            1 => self.pick(&LIMITS),
            _ => (10_f64).powf(self.random.random_range(1.0..4.7)) as usize,
        }
    }

    fn names(&mut self, base: usize) -> Names {
        const STARTS: [&str; 6] = ["a", "From_Account", "MsgId", "CreateTim", "A", "Callback"];
        let nodes = &self.bases[base].nodes;
        match self.random.random_range(0..3) {
            0 => {
                let name = nodes[self.random.random_range(0..nodes.len())].name.clone();
                Names::Same(if name.is_empty() { "a".to_owned() } else { name })
            }
            _ => Names::Unique(self.pick(&STARTS), self.random.random_range(1..24)),
        }
    }

    fn runs(&mut self, form: Form) -> Vec<Run> {
        let count = self.random.random_range(1..=3);
        let mut run = || {
            let in_cdata = form == Form::Xml && self.random.random_bool(0.4);
            let units = match (form, in_cdata) {
                (Form::Xml, true) => CDATA_TEXTS,
                (Form::Xml, false) => XML_TEXTS,
                (Form::Json, _) => JSON_TEXTS,
            };
            Run { unit: units[self.random.random_range(0..units.len())], share: 1.0 / f64::from(count), in_cdata }
        };
        (0..count).map(|_| run()).collect()
    }

    /// A shape with something else about it; what is good of `other` may come in.
    fn changed(&mut self, mut shape: Shape, other: &Shape) -> Shape {
        let at = self.random.random_range(0..shape.parts.len());
        match self.random.random_range(0..7) {
            0 => shape.parts[at].count = self.count(),
            1 if shape.parts.len() < 3 => {
                let part = self.part(shape.base);
                shape.parts.push(part);
            }
            2 if shape.parts.len() > 1 => drop(shape.parts.remove(at)),
            3 if shape.base == other.base && shape.parts.len() < 3 => shape.parts.extend(other.parts.first().cloned()),
            4 => {
                if let What::Text(runs) = &mut shape.parts[at].what {
                    let weights: Vec<f64> = runs.iter().map(|_| self.random.random_range(0.05..1.0)).collect();
                    let sum: f64 = weights.iter().sum();
                    runs.iter_mut().zip(weights).for_each(|(run, weight)| run.share = weight / sum);
                }
            }
            5 => {
                let node = shape.parts[at].node;
                let part = self.part(shape.base);
                shape.parts[at] = if self.random.random_bool(0.5) { part } else { Part { node, ..part } };
            }
            _ => {
                let part = shape.parts[at].clone();
                let base = self.random.random_range(0..self.bases.len());
                if self.bases[base].form == self.bases[shape.base].form {
                    let node = self.random.random_range(0..self.bases[base].nodes.len());
                    shape = Shape { base, parts: vec![Part { node, ..part }] };
                }
            }
        }
        let shares: Vec<f64> = shape.parts.iter().map(|_| self.random.random_range(0.1..1.0)).collect();
        let sum: f64 = shares.iter().sum();
        shape.parts.iter_mut().zip(shares).for_each(|(part, share)| part.share = share / sum);
        shape
    }
}
