//! What picks promise, over all strategies.
