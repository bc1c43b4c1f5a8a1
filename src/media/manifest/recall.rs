//! What is remembered, one directory at a time or by the block, for a walk that asks for it in
//! order.

use std::collections::VecDeque;

use super::confirm::{Next, Remembered};
use super::format::{Block, Recorded};
use crate::media::scan::Scan;
use crate::wire::path::RelPath;
use crate::wire::tree::Directory;

/// What comes next.
pub(crate) enum Peek<'a> {
    At(&'a RelPath),
    /// Nothing is remembered, or nothing more.
    Nothing,
    /// The rest is damaged.
    Broken,
}

/// A part of what is remembered.
pub(crate) enum Recalled {
    /// A whole block that is as it was.
    Block(Box<Block>),
    /// A directory that is as it was, and its record.
    Directory(Directory, Vec<u8>),
    /// One that must be listed.
    Changed(RelPath),
}

pub(crate) struct Recall<'a> {
    scan: &'a Scan,
    remembered: Remembered,
    /// A block that was not looked into yet.
    block: Option<Box<Block>>,
    /// What is left of one that was.
    directories: VecDeque<Recorded>,
    last: Option<RelPath>,
    broken: bool,
}

impl<'a> Recall<'a> {
    pub fn new(scan: &'a Scan, remembered: Remembered) -> Self {
        let (block, directories) = (None, VecDeque::new());
        Recall { scan, remembered, block, directories, last: None, broken: false }
    }

    pub fn peek(&mut self) -> Peek<'_> {
        self.fill();
        match (&self.block, self.directories.front()) {
            (Some(block), _) => Peek::At(&block.head.first),
            (None, Some((path, _))) => Peek::At(path),
            (None, None) if self.broken => Peek::Broken,
            (None, None) => Peek::Nothing,
        }
    }

    /// Nothing more is remembered.
    pub fn give_up(&mut self) {
        (self.remembered, self.broken) = (Remembered::nothing(), false);
    }

    /// Forgets what comes before `path`.
    pub fn pass_over(&mut self, path: &RelPath) {
        loop {
            self.fill();
            if let Some(block) = self.block.take_if(|block| block.head.first < *path) {
                if block.head.last >= *path {
                    self.open(&block, None);
                }
            } else if self.directories.front().is_some_and(|(at, _)| at < path) {
                self.directories.pop_front();
            } else {
                return;
            }
        }
    }

    /// Forgets what comes next in `dir`.
    pub fn leave(&mut self, dir: &RelPath) {
        loop {
            self.fill();
            if let Some(block) = self.block.take_if(|block| block.head.first.is_within(dir)) {
                if !block.head.last.is_within(dir) {
                    self.open(&block, None);
                }
            } else if self.directories.front().is_some_and(|(at, _)| at.is_within(dir)) {
                self.directories.pop_front();
            } else {
                return;
            }
        }
    }

    /// Takes what comes next, which is somewhere in `within`.
    pub fn take(&mut self, within: &RelPath) -> Recalled {
        if let Some(block) = self.block.take() {
            if block.head.last.is_within(within) {
                return Recalled::Block(block);
            }
            self.open(&block, None);
        }
        match self.directories.pop_front() {
            Some((_, Some((directory, record)))) => Recalled::Directory(directory, record),
            Some((path, None)) => Recalled::Changed(path),
            // Only after a peek that found nothing.
            None => Recalled::Changed(within.clone()),
        }
    }

    fn open(&mut self, block: &Block, as_it_was: Option<&[bool]>) {
        let directories = block.directories(self.scan).into_iter().enumerate();
        self.directories = directories
            .map(|(at, (path, known))| {
                let same = as_it_was.is_none_or(|all| all.get(at) == Some(&true));
                (path, known.filter(|_| same))
            })
            .collect();
    }

    fn fill(&mut self) {
        while self.block.is_none() && self.directories.is_empty() && !self.broken {
            match self.remembered.next() {
                Next::Block(confirmed) => {
                    // Blocks that are not in order are none of ours.
                    let block = &confirmed.block;
                    if self.last.as_ref().is_some_and(|last| *last >= block.head.first) {
                        self.broken = true;
                        return;
                    }
                    self.last = Some(block.head.last.clone());
                    if confirmed.is_whole() {
                        self.block = Some(Box::new(confirmed.block));
                    } else {
                        self.open(block, Some(&confirmed.as_it_was));
                    }
                }
                Next::End => return,
                Next::Broken => self.broken = true,
            }
        }
    }
}
