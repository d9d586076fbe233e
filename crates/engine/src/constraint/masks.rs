//! A compiled grammar, followed through one answer.

use std::fmt;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, channel};

use super::ConstraintError;
use super::automaton::Automaton;
use super::workers::Workers;
use crate::sampling::Mask;

/// Says which tokens may follow, for one answer.
///
/// For each step: [`Constraint::start`] with the tokens that the step verifies (none when it just
/// decodes), then for each row [`Constraint::mask`] and [`Constraint::accept`].
pub struct Constraint {
    place: Place,
    workers: Arc<Workers>,
    /// The masks found for the tokens behind the place, from [`Self::accepted`] on.
    masks: Vec<Mask>,
    /// The tokens that the masks were found for.
    draft: Vec<u32>,
    /// How many of them were accepted since.
    accepted: usize,
}

/// Where the automaton is.
enum Place {
    /// Here.
    Here(Box<Automaton>),
    /// With a worker, which sends it back.
    Away(Receiver<Found>),
    /// It failed, and so does everything else.
    Lost(ConstraintError),
}

struct Found {
    automaton: Box<Automaton>,
    masks: Result<Vec<Mask>, ConstraintError>,
}

impl fmt::Debug for Constraint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter
            .debug_struct("Constraint")
            .field("is_away", &matches!(self.place, Place::Away(_)))
            .finish_non_exhaustive()
    }
}

impl Constraint {
    pub(super) fn new(automaton: Automaton, workers: Arc<Workers>) -> Self {
        Self {
            place: Place::Here(Box::new(automaton)),
            workers,
            masks: Vec::new(),
            draft: Vec::new(),
            accepted: 0,
        }
    }

    /// Starts to find the masks of a step beside it: of the next token, and of the one behind each
    /// token of `draft`, up to the first that the grammar does not allow.
    pub fn start(&mut self, draft: &[u32]) {
        self.forget_masks();
        let Ok(mut automaton) = self.take() else {
            return;
        };
        let (send, receive) = channel();
        let tokens = draft.to_vec();
        self.draft = tokens.clone();
        self.workers.run(move || {
            let masks = masks_along(&mut automaton, &tokens);
            // Nobody waits for those of an answer that has ended.
            drop(send.send(Found { automaton, masks }));
        });
        self.place = Place::Away(receive);
    }

    /// The tokens that may follow. Waits for what [`Self::start`] began, or finds them now.
    ///
    /// # Errors
    /// When that takes more work than allowed, or failed before. The answer has to end.
    pub fn mask(&mut self) -> Result<&Mask, ConstraintError> {
        self.fetch()?;
        if self.masks.get(self.accepted).is_none() {
            self.forget_masks();
            let found = self.with(Automaton::mask)?;
            self.masks.push(found);
        }
        Ok(&self.masks[self.accepted])
    }

    /// Goes on by a token.
    ///
    /// # Errors
    /// When the grammar does not allow it, or when following it failed. The answer has to end.
    pub fn accept(&mut self, token: u32) -> Result<(), ConstraintError> {
        self.fetch()?;
        self.with(|automaton| automaton.accept(token))?;
        if self.draft.get(self.accepted) == Some(&token) {
            self.accepted += 1;
        } else {
            self.forget_masks();
        }
        Ok(())
    }

    /// How many of these tokens the grammar allows, one after the other: what is worth verifying.
    ///
    /// # Errors
    /// When following the grammar failed.
    pub fn allowed(&mut self, draft: &[u32]) -> Result<usize, ConstraintError> {
        self.fetch()?;
        self.with(|automaton| automaton.allowed(draft))
    }

    /// The tokens that have to follow, as far as that is certain: a draft that is always right.
    ///
    /// # Errors
    /// When following the grammar failed.
    pub fn certain(&mut self) -> Result<Vec<u32>, ConstraintError> {
        self.fetch()?;
        self.with(Automaton::certain)
    }

    /// Whether the answer can only end now.
    ///
    /// # Errors
    /// When following the grammar failed.
    pub fn is_complete(&mut self) -> Result<bool, ConstraintError> {
        self.fetch()?;
        self.with(|automaton| Ok(automaton.is_complete()))
    }

    /// The same place for another answer that goes on from here.
    ///
    /// # Errors
    /// When following the grammar failed.
    pub fn fork(&mut self) -> Result<Self, ConstraintError> {
        self.fetch()?;
        let workers = Arc::clone(&self.workers);
        self.with(|automaton| Ok(Self::new(automaton.fork(), workers)))
    }

    /// Waits for a worker.
    fn fetch(&mut self) -> Result<(), ConstraintError> {
        let Place::Away(receive) = &self.place else {
            return Ok(());
        };
        match receive.recv() {
            Ok(Found { automaton, masks }) => {
                self.place = Place::Here(automaton);
                match masks {
                    Ok(masks) => self.masks = masks,
                    Err(error) => return self.lose(error),
                }
                Ok(())
            }
            Err(_) => self.lose(ConstraintError::Internal("a worker was lost".to_owned())),
        }
    }

    fn take(&mut self) -> Result<Box<Automaton>, ConstraintError> {
        self.fetch()?;
        let lost = ConstraintError::Internal("the grammar's place was lost".to_owned());
        match std::mem::replace(&mut self.place, Place::Lost(lost.clone())) {
            Place::Here(automaton) => Ok(automaton),
            Place::Lost(error) => self.lose(error),
            Place::Away(_) => Err(lost),
        }
    }

    fn with<T>(
        &mut self,
        work: impl FnOnce(&mut Automaton) -> Result<T, ConstraintError>,
    ) -> Result<T, ConstraintError> {
        match &mut self.place {
            Place::Here(automaton) => match work(automaton) {
                Ok(done) => Ok(done),
                // The automaton has not moved: another token may be tried.
                Err(error @ ConstraintError::Violated { .. }) => Err(error),
                Err(error) => self.lose(error),
            },
            Place::Lost(error) => Err(error.clone()),
            Place::Away(_) => Err(ConstraintError::Internal("a worker is at it".to_owned())),
        }
    }

    fn lose<T>(&mut self, error: ConstraintError) -> Result<T, ConstraintError> {
        self.place = Place::Lost(error.clone());
        Err(error)
    }

    fn forget_masks(&mut self) {
        self.masks.clear();
        self.draft.clear();
        self.accepted = 0;
    }
}

/// The mask at a place and behind each token of a draft, up to the first that is not allowed. The
/// automaton ends where it began.
fn masks_along(automaton: &mut Automaton, draft: &[u32]) -> Result<Vec<Mask>, ConstraintError> {
    let mut masks = vec![automaton.mask()?];
    let mut gone = 0;
    for &token in draft {
        if !masks.last().is_some_and(|mask| mask.allows(token)) || automaton.is_complete() {
            break;
        }
        automaton.accept(token)?;
        gone += 1;
        masks.push(automaton.mask()?);
    }
    automaton.go_back(gone)?;
    Ok(masks)
}
