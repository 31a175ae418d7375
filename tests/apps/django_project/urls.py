"""Routes of the project."""

from django.contrib import admin
from django.urls import path

from django_project.notes import views

urlpatterns = [
    path("admin/", admin.site.urls),
    path("notes/", views.notes),
    path("notes/<int:number>/", views.note),
    path("form/", views.form),
    path("upload/", views.upload),
    path("stream/", views.stream),
    path("file/", views.file),
    path("report/", views.report),
]
