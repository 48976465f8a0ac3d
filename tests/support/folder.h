/* folder.h: what tests of files look at. */
#ifndef FOLDER_H
#define FOLDER_H

/* Files in a folder. */
int folder_count(const char *path);
/* The file holds exactly this text. */
void folder_check(const char *path, const char *expected);

#endif
