//! Whose nodes count against a quota, while they end.

use loom::sync::Arc;
use loom::thread;

use crate::shared::{Shared, address};

/// A process whose node ends while it is found out whose that is has no node then.
pub fn who_has_gone_has_no_quota() {
    loom::model(|| {
        let shared = Arc::new(Shared::default());
        shared.register(1);
        let ending = shared.clone();
        let ending = thread::spawn(move || ending.end(1));
        let applicant = shared.applicant(address(2), address(4369));
        ending.join().unwrap();
        assert!(!shared.quotas.are_used_up(&applicant, 1), "nobody's node counts");
        shared.register(3);
        shared.quotas.are_incomplete();
        let applicant = shared.applicant(address(2), address(4369));
        assert!(shared.quotas.are_used_up(&applicant, 1));
    });
}
