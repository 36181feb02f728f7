"""Installing one generation of a certificate on this host, so that it is seen being served."""
