//! The share of what is possible: it grows step by step while the machine has time, and is halved
//! whenever it has not (additive increase, multiplicative decrease). Pure.

use super::pressure::Pressure;

/// More waiting than this is too much, and less than this share of it is none to speak of.
const IO_MAX: f64 = 0.30;
const CPU_MAX: f64 = 0.50;
const CALM: f64 = 0.5;
const STEP: f64 = 0.05;
const SHARE_MIN: f64 = 1.0 / 32.0;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Share(f64);

impl Default for Share {
    fn default() -> Self {
        Share(1.0)
    }
}

impl Share {
    pub fn step(&mut self, pressure: Pressure) {
        let load = (pressure.io / IO_MAX).max(pressure.cpu / CPU_MAX);
        if load > 1.0 {
            self.0 = (self.0 / 2.0).max(SHARE_MIN);
        } else if load < CALM {
            self.0 = (self.0 + STEP).min(1.0);
        }
    }

    pub fn get(self) -> f64 {
        self.0
    }

    pub fn is_whole(self) -> bool {
        self.0 >= 1.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Every half second of a server whose disk a backup reads for three seconds, as a share of the
    /// time in which something waited for it.
    const RECORDED: [f64; 16] = [
        0.02, 0.04, 0.41, 0.87, 0.93, 0.90, 0.72, 0.35, 0.24, 0.19, 0.12, 0.08, 0.05, 0.06, 0.03,
        0.04,
    ];

    #[test]
    fn it_yields_at_once_and_comes_back_slowly() {
        let mut share = Share::default();
        let shares = RECORDED.map(|io| {
            share.step(Pressure { io, cpu: 0.1 });
            (share.get() * 100.0).round()
        });
        let expected = [
            100.0, 100.0, 50.0, 25.0, 13.0, 6.0, 3.0, 3.0, 3.0, 3.0, 8.0, 13.0, 18.0, 23.0, 28.0,
            33.0,
        ];
        assert_eq!(shares, expected);
    }

    #[test]
    fn processors_count_as_much_as_disks() {
        let mut share = Share::default();
        share.step(Pressure { io: 0.0, cpu: 0.8 });
        assert_eq!(share.get(), 0.5);
        // Neither busy nor idle: it stays.
        share.step(Pressure { io: 0.2, cpu: 0.3 });
        assert_eq!(share.get(), 0.5);
        (0..20).for_each(|_| share.step(Pressure { io: 0.0, cpu: 0.0 }));
        assert!(share.is_whole());
    }
}
