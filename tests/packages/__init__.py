"""What a release is installed from: wheel, Debian package, man pages, completion, images, roles."""
