//! Look-ups that go on while something else happens.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;

use super::{DEADLINE, wait_until};

/// Clients that ask the same again and again, and stop at the first reply that
/// is wrong or does not come.
pub struct Load {
    shared: Arc<Shared>,
    clients: Vec<JoinHandle<()>>,
}

#[derive(Default)]
struct Shared {
    over: AtomicBool,
    answered: AtomicU64,
}

impl Load {
    pub fn start(server: SocketAddr, clients: usize, request: &[u8], reply: &[u8]) -> Self {
        let shared = Arc::new(Shared::default());
        let client = |_| {
            let (shared, request, reply) = (shared.clone(), request.to_vec(), reply.to_vec());
            std::thread::spawn(move || {
                while !shared.over.load(Ordering::Relaxed) {
                    let answered = answer(server, &request).expect("an answer");
                    assert_eq!(
                        answered.escape_ascii().to_string(),
                        reply.escape_ascii().to_string()
                    );
                    shared.answered.fetch_add(1, Ordering::Relaxed);
                }
            })
        };
        let clients = (0..clients).map(client).collect();
        let load = Self { shared, clients };
        load.go_on(1);
        load
    }

    /// Waits until so many more requests were answered.
    ///
    /// # Panics
    /// When one was not.
    pub fn go_on(&self, requests: u64) {
        let goal = self.shared.answered.load(Ordering::Relaxed) + requests;
        wait_until("requests are answered", || {
            assert!(!self.clients.iter().any(JoinHandle::is_finished), "a request failed");
            self.shared.answered.load(Ordering::Relaxed) >= goal
        });
    }

    /// Ends the load; every request that it sent was answered as it should.
    pub fn finish(mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
        for client in self.clients.drain(..) {
            client.join().expect("every request is answered");
        }
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.shared.over.store(true, Ordering::Relaxed);
    }
}

fn answer(server: SocketAddr, request: &[u8]) -> std::io::Result<Vec<u8>> {
    let mut stream = TcpStream::connect_timeout(&server, DEADLINE)?;
    stream.set_read_timeout(Some(DEADLINE))?;
    stream.write_all(request)?;
    let mut reply = Vec::new();
    stream.read_to_end(&mut reply)?;
    Ok(reply)
}
