//! The job of each machine: COMMAND, and where there is one the command that waits for its
//! result.

use std::time::Duration;

use tokio::sync::{Semaphore, watch};
use tokio::time::{Instant, timeout};

use crate::outcome::answer_of;
use crate::report::{Answer, Begun, Object, State};
use crate::ssh::{Bounds, Ssh};

/// The time before a machine is asked again.
const PAUSE: Duration = Duration::from_secs(1);

/// The job that every machine gets.
#[derive(Debug)]
pub struct Job {
    /// The connection.
    pub ssh: Ssh,
    /// Its first command.
    pub command: String,
    /// The limits of that.
    pub bounds: Bounds,
    /// Its second command, which waits for the result of the first.
    pub wait: Option<Wait>,
    /// The keys and values of a good answer.
    pub expected: Option<Object>,
}

/// The second half of a job.
#[derive(Debug)]
pub struct Wait {
    /// The command.
    pub command: String,
    /// Its limits; the time to its end covers all repetitions.
    pub bounds: Bounds,
    /// Whether it is repeated until it succeeds.
    pub again: bool,
}

impl Job {
    /// Asks one machine. `beginning` limits the machines that begin at the same time, and `begun` is
    /// called between the two commands. `None` when `stopped` becomes true.
    pub async fn with(
        &self,
        host: &str,
        beginning: &Semaphore,
        stopped: &mut watch::Receiver<bool>,
        begun: impl FnOnce(Begun),
    ) -> Option<Answer> {
        let expected = self.expected.as_ref();
        let turn = beginning.acquire().await;
        let ended = self
            .ssh
            .run(host, &self.command, true, self.bounds, stopped)
            .await?;
        drop(turn);
        let Some(wait) = &self.wait else {
            return Some(answer_of(host, &self.command, &ended, expected));
        };
        let first = answer_of(host, &self.command, &ended, None);
        if first.state != State::Done {
            return Some(first);
        }
        // While it waits it keeps the document as text, which is small.
        let text = serde_json::to_string(&first.answer).ok();
        begun(Begun {
            host: host.to_owned(),
            answer: first.answer,
        });
        let last = self.result(host, wait, stopped).await?;
        Some(Answer {
            begun: text.and_then(|text| serde_json::from_str(&text).ok()?),
            ..last
        })
    }

    async fn result(
        &self,
        host: &str,
        wait: &Wait,
        stopped: &mut watch::Receiver<bool>,
    ) -> Option<Answer> {
        let end = Instant::now() + wait.bounds.most;
        loop {
            let bounds = Bounds {
                most: end.saturating_duration_since(Instant::now()),
                ..wait.bounds
            };
            let ended = self
                .ssh
                .run(host, &wait.command, false, bounds, stopped)
                .await?;
            let answer = answer_of(host, &wait.command, &ended, self.expected.as_ref());
            if !wait.again || answer.state == State::Done {
                return Some(answer);
            }
            let _ = timeout(PAUSE, stopped.wait_for(|stopped| *stopped)).await;
            if Instant::now() >= end {
                let said = answer.said.unwrap_or_default();
                return Some(Answer {
                    state: State::Lost,
                    said: Some(format!("after {} s: {said}", wait.bounds.most.as_secs())),
                    ..answer
                });
            }
        }
    }
}
