// A photo in, the best labels out: MediaPipe Tasks with a model that Graft exported.
//
// Labels and scaling are inside the model's file; how a photo becomes a square, manifest.json says.

import MediaPipeTasksVision
import UIKit

/// A label and how sure the model is of it, 0 to 1.
struct Label {
    let name: String
    let score: Float
}

enum PhotoClassifierError: Error {
    case noFile(String)
    case badManifest(String)
}

/// How a photo that is no square becomes one; `preprocessing.fit` of manifest.json.
private enum Fit: String {
    case stretch, crop, pad

    /// An older Graft knew nothing but stretching, and did not say it.
    init(manifest: Data) throws {
        let content = try JSONSerialization.jsonObject(with: manifest) as? [String: Any]
        let name = (content?["preprocessing"] as? [String: Any])?["fit"] as? String ?? Fit.stretch.rawValue
        guard let fit = Fit(rawValue: name) else {
            throw PhotoClassifierError.badManifest("the fit \(name) is not known here")
        }
        self = fit
    }
}

final class PhotoClassifier {
    private let classifier: ImageClassifier
    private let fit: Fit

    /// `name`: of the .tflite file in `bundle`; `manifest`: of the .json file there.
    init(name: String = "model", manifest: String = "manifest", bundle: Bundle = .main, most: Int = 3) throws {
        guard let path = bundle.path(forResource: name, ofType: "tflite") else {
            throw PhotoClassifierError.noFile("\(name).tflite is not in the app: add it to the target")
        }
        guard let described = bundle.url(forResource: manifest, withExtension: "json") else {
            throw PhotoClassifierError.noFile("\(manifest).json is not in the app: add it to the target")
        }
        fit = try Fit(manifest: Data(contentsOf: described))
        let options = ImageClassifierOptions()
        options.baseOptions.modelAssetPath = path
        options.runningMode = .image
        options.maxResults = most
        classifier = try ImageClassifier(options: options)
    }

    /// The best labels of `photo`, the surest first. Takes milliseconds: call it off the main thread.
    func labels(of photo: UIImage) throws -> [Label] {
        let result: ImageClassifierResult
        switch fit {
        case .stretch:
            result = try classifier.classify(image: MPImage(uiImage: photo))
        case .crop:
            let upright = drawn(photo, on: pixels(of: photo))
            let region = centreSquare(of: pixels(of: photo))
            result = try classifier.classify(image: MPImage(uiImage: upright), regionOfInterest: region)
        case .pad:
            // MediaPipe has no padding of its own: the photo is drawn on a grey square, which is then stretched to a square.
            let size = pixels(of: photo)
            let side = max(size.width, size.height)
            let square = drawn(photo, on: CGSize(width: side, height: side))
            result = try classifier.classify(image: MPImage(uiImage: square))
        }
        let categories = result.classificationResult.classifications.first?.categories ?? []
        return categories.map { Label(name: $0.categoryName ?? "", score: $0.score) }
    }
}

private func pixels(of photo: UIImage) -> CGSize {
    CGSize(width: (photo.size.width * photo.scale).rounded(), height: (photo.size.height * photo.scale).rounded())
}

/// The region of interest of an upright photo, in shares of width and height.
private func centreSquare(of size: CGSize) -> CGRect {
    let side = min(size.width, size.height)
    let left = ((size.width - side) / 2).rounded(.down)
    let top = ((size.height - side) / 2).rounded(.down)
    return CGRect(x: left / size.width, y: top / size.height, width: side / size.width, height: side / size.height)
}

/// `photo`, upright, in the middle of a grey canvas of so many pixels.
private func drawn(_ photo: UIImage, on canvas: CGSize) -> UIImage {
    let format = UIGraphicsImageRendererFormat()
    format.scale = 1
    format.opaque = true
    return UIGraphicsImageRenderer(size: canvas, format: format).image { context in
        UIColor(red: 128 / 255, green: 128 / 255, blue: 128 / 255, alpha: 1).setFill() // around a padded photo
        context.fill(CGRect(origin: .zero, size: canvas))
        let size = pixels(of: photo)
        let left = ((canvas.width - size.width) / 2).rounded(.down)
        let top = ((canvas.height - size.height) / 2).rounded(.down)
        let place = CGRect(origin: CGPoint(x: left, y: top), size: size)
        UIColor.white.setFill() // behind transparent pixels
        context.fill(place)
        photo.draw(in: place)
    }
}
