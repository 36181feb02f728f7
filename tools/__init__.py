"""What builds, locks and checks the repository; runs on a bare Python 3.11, installed nowhere."""
